"""The commands of the program `gradfeed`, a module each."""
