"""Where a wrong derivative comes from, and what else is found around it."""
