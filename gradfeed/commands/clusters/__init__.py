"""`gradfeed at` in shards: in processes here, or by an engine elsewhere."""
