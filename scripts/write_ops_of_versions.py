"""Writes which ops and attributes of ops an older TensorFlow knows.

  python scripts/write_ops_of_versions.py --output=1.15.json   # With TF 1.15
  python scripts/write_ops_of_versions.py --older=1.15.json    # With the newest

The first line writes the ops of the TensorFlow that runs it, the second the
module gradfeed/migration/exports/ops_of_1_15.py: the ops of the older one, and
the attributes that the newer one has added to them. Ops that are never
exported, those of datasets, optimizers and TPUs, are left out.
"""

import collections
import json
import os
import re
import sys
import textwrap

from absl import app
from absl import flags
import tensorflow.compat.v1 as tf

sys.path.insert(0, os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
# pylint: disable-next=g-import-not-at-top, wrong-import-position
from gradfeed import _tf

_OUTPUT = flags.DEFINE_string(
    "output", None, "JSON file to write: the ops of this TensorFlow.")
_OLDER = flags.DEFINE_string(
    "older", None, "JSON file with the ops of the older TensorFlow.")

_MODULE = os.path.join(
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "gradfeed",
    "migration", "exports", "ops_of_1_15.py")

#: Ops of which nothing is exported.
_NEVER = re.compile(r"Dataset|TPU|^_|Collective|BoostedTrees|Apply|Batch"
                    r"Function|Iterator|BackwardCompat")


def ops_here():
  """dict from the name of each op to the sorted names of its attributes."""
  graph = tf.Graph()
  return {name: sorted(attribute.name for attribute in
                       _tf.op_definition(graph, name).attr)
          for name in dir(tf.raw_ops) if not name.startswith("_")}


def module_text(older, newer, version):
  """The text of the module.

  Args:
    older, newer: as `ops_here` gives them.
    version: str, of the newer TensorFlow.
  """
  added = collections.defaultdict(list)
  for name in sorted(set(older) & set(newer)):
    for attribute in sorted(set(newer[name]) - set(older[name])):
      if not _NEVER.search(name):
        added[attribute].append(name)
  lines = [
      '"""What TensorFlow 1.15 knows of ops.', "",
      "Written by scripts/write_ops_of_versions.py, with TensorFlow {} as the"
      .format(version), 'newer one.', '"""', "",
      "#: From each attribute that newer versions have added to the ops that",
      "#: they added it to.", "ADDED_ATTRIBUTES = {"]
  for attribute, names in sorted(added.items()):
    lines.append('    "{}": """'.format(attribute))
    lines += textwrap.wrap(" ".join(names), 72, initial_indent="        ",
                           subsequent_indent="        ")
    lines[-1] += '""",'
  lines += ["}", "", "#: The types of all ops that can be exported.",
            'OPS = frozenset("""']
  lines += textwrap.wrap(
      " ".join(name for name in sorted(older) if not _NEVER.search(name)), 80)
  lines += ['""".split())', ""]
  return "\n".join(lines)


def main(_):
  ops = ops_here()
  if _OUTPUT.value:
    with open(_OUTPUT.value, "w") as output:
      json.dump(ops, output)
  if _OLDER.value:
    with open(_OLDER.value) as source:
      older = json.load(source)
    with open(_MODULE, "w") as output:
      output.write(module_text(older, ops, tf.__version__))


if __name__ == "__main__":
  app.run(main)
