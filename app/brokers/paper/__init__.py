"""The paper venue: an exchange of our own. Its prices are a function of time, its book is in the database."""
