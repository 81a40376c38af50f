"""What `python scripts/benchmark.py` runs, a module for each benchmark.

Most of it measures in processes of its own, which may be of another Python
that has NumPy and one library (`command`). They import the gradfeed of this
checkout.
"""

import os
import sys

_FOLDER = os.path.dirname(os.path.abspath(__file__))

#: The checkout, whose gradfeed and tests are imported.
ROOT = os.path.dirname(os.path.dirname(_FOLDER))

sys.path.insert(0, ROOT)


def command(python, module, *arguments):
  """What starts a process of a benchmark: list of str.

  Args:
    python: str, path of an interpreter.
    module: str, full name of a module of this package that has a `main`.
    *arguments: str, what `main` finds in `sys.argv`.
  """
  return [python, _FOLDER, module] + list(arguments)
