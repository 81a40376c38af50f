"""What is passed to `function` and `run`: values, feeds and forms of calls."""
