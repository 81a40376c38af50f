"""Pieces of a legacy graph as code of TF 2."""
