"""WHAT A CALL IS: the vocabulary every other room speaks. Pure."""
