"""A batch of one row, for any number of rows: what `batch_size` cannot alone."""
