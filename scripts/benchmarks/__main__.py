"""Starts a process of a benchmark, as `benchmarks.command` asks for it.

  python scripts/benchmarks benchmarks.workers session_run --mode=v1
"""

import importlib
import os
import sys


def main():
  # In place of this folder, whose names other packages may have too.
  sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
  importlib.import_module(sys.argv.pop(1)).main()


if __name__ == "__main__":
  main()
