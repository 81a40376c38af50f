"""What `stream` is made of."""
