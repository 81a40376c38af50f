"""`python -m gradfeed COMMAND --flags` does what `gradfeed` does."""

import sys

from gradfeed.commands import apps

if __name__ == "__main__":
  apps.main(sys.argv)
