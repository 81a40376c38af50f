"""Watches a legacy program as it is, and says what to mend in it."""
