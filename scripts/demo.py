"""The demonstration, from a checkout: the same as `gradfeed demo`.

  python scripts/demo.py --x_t=-1.5,0.2,3
"""

import os
import runpy
import sys

_PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "gradfeed")

if __name__ == "__main__":
  sys.argv = [_PROGRAM, "demo"] + sys.argv[1:]
  runpy.run_path(_PROGRAM, run_name="__main__")
