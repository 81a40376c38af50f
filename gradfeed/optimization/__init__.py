"""Minimizes tensors of a graph by the methods of SciPy."""
