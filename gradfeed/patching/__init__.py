"""Replaces the functions by which TensorFlow differentiates and evaluates."""
