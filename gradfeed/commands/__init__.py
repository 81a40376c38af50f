"""The programs that the shell runs."""
