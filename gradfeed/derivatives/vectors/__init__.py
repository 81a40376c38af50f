"""Derivatives as flat vectors, and products of vectors with curvatures."""
