"""Turns tensors into tensors: every kind of derivative."""
