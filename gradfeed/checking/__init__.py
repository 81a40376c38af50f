"""Whether a derivative is right, at a value."""
