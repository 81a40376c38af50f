"""Evaluates a function at every row of a file, and writes results to a file."""
