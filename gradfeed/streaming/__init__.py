"""A function at every row of a file, into a file."""
