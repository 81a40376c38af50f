"""One set of feeds and fetches in one session: called fast and safely."""
