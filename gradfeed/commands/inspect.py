"""Shows what is in a model: what to name as x and y, what to feed.

Reads a frozen graph (.pb, .pbtxt), a checkpoint with its graph (.meta, or its
directory), the directory of a SavedModel or a model of Keras 2 (.h5), and lists
candidates for x and y, the other placeholders, signatures, variables, loops,
and ops that draw numbers, wait, or change variables.

  gradfeed inspect --graph=model.pb
"""

import json

from absl import flags

from gradfeed.commands import model_flags
from gradfeed.commands import tables
from gradfeed.models import inventory

#: The flags that have to be given.
REQUIRED = ("graph",)

FLAGS = flags.FlagValues()
_load = model_flags.define(FLAGS)
_FORMAT = flags.DEFINE_enum(
    "format", "text", ["text", "json"], "How to print it.", flag_values=FLAGS)

_MOST_NAMES = 5


def main():
  """Prints the inventory of the model."""
  as_text = _FORMAT.value == "text"
  tabulate = tables.tabulate() if as_text else None
  with _load() as model:
    found = inventory.inventory(model)
  print(as_lines(found, tabulate) if as_text else json.dumps(found, indent=2))


def as_lines(found, tabulate):
  """The inventory as text.

  Args:
    found: dict, as `inventory.inventory` gives it.
    tabulate: the function of that name.

  Returns:
    str.
  """
  parts = ["{}: {}, {} ops, {} variable{}.".format(
      found["path"], found["kind"], found["ops"], len(found["variables"]),
      "" if len(found["variables"]) == 1 else "s")]
  for title, tensors in (
      ("Differentiate by one of these (--x), or by any layer", found["x"]),
      ("Differentiate one of these (--y), or any layer", found["y"]),
      ("Other placeholders, which may have to be fed (--feed)",
       found["feeds"])):
    parts.append(_table(title, tensors, tabulate))
  if found["signatures"]:
    parts.append("Signatures:\n\n" + "\n".join(
        "  {}: {} -> {}".format(name, _joined(signature["inputs"]),
                                _joined(signature["outputs"]))
        for name, signature in sorted(found["signatures"].items())))
  without = [variable["name"] for variable in found["variables"]
             if not variable["has_value"]]
  for what, names in (
      ("While loops", found["loops"]), ("Conditions", found["branches"]),
      ("Ops that draw random numbers", found["random"]),
      ("Ops that wait for data", found["waiting"]),
      ("Ops that change a variable", found["assigning"]),
      ("Variables without a value", without)):
    if names:
      parts.append("{} ({}): {}{}".format(
          what, len(names), ", ".join(names[:_MOST_NAMES]),
          ", ..." if len(names) > _MOST_NAMES else ""))
  return "\n\n".join(parts)


def _table(title, tensors, tabulate):
  if not tensors:
    return title + ":\n\n  none"
  lines = tabulate(
      [[tensor["name"], tensor["dtype"], _shape(tensor["shape"])]
       for tensor in tensors], tablefmt="plain", disable_numparse=True)
  return title + ":\n\n  " + lines.replace("\n", "\n  ")


def _shape(dims):
  if dims is None:
    return "unknown shape"
  return "[{}]".format(", ".join("?" if d is None else str(d) for d in dims))


def _joined(named):
  return ", ".join("{} = {}".format(*item) for item in sorted(named.items()))
