"""Reads a graph; adds nothing to it."""
