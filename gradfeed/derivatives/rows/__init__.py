"""Derivatives of the rows of a batch, and of one class of each row."""
