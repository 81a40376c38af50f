"""Clones a part of a graph in another form; changes no op that is there."""
