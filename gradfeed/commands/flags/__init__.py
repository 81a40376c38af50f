"""Flags that several commands share: the model, the derivative, values."""
