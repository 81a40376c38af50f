"""Finds out about derivatives; builds and runs nothing."""
