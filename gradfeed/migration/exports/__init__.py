"""Functions of a legacy graph as SavedModels that need no gradfeed."""
