"""`python -m gradfeed COMMAND --flags` does what `gradfeed` does."""

import gradfeed_cli

if __name__ == "__main__":
  gradfeed_cli.main()
