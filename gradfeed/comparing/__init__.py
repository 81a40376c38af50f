"""Whether rewritten code agrees with the legacy graph, and where it begins."""
