"""How venues answer, one file for each family: written as their own references describe it."""
