"""`python -m gradfeed COMMAND --flags` does what `gradfeed` does."""

import sys

from gradfeed.commands import runner

if __name__ == "__main__":
  runner.main(sys.argv)
