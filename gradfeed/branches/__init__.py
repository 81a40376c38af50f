"""Finds which branches of conditionals are taken where values are known."""
