"""HTTP: one file is one resource's whole contract, its wire models beside its handlers."""
