"""Loads models from disk, lists what is in them, and clones them in memory."""
