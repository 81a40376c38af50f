"""What a derivative will be, or why there is none."""
