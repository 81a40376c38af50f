"""Evaluates tensors at values."""
