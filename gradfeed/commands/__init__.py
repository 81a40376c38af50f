"""The commands of `gradfeed`, an absl app each."""
