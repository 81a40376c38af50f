"""Jacobians of which only few elements are not zero."""
