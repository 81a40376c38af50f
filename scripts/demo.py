"""The demonstration, from a checkout: the same as `gradfeed demo`.

  python scripts/demo.py --x_t=-1.5,0.2,3
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import gradfeed_cli  # pylint: disable=wrong-import-position

if __name__ == "__main__":
  gradfeed_cli.main(["gradfeed", "demo"] + sys.argv[1:])
