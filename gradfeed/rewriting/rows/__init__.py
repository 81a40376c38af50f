"""A batch of one row, for any number of rows: loops, and what has no rows."""
