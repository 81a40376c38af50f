"""Loops of a program, and the lists that they fill."""
