"""Shows what is in a model: what to name as x and y, what to feed.

Reads a frozen graph (.pb, .pbtxt), a checkpoint with its graph (.meta, or its
directory), the directory of a SavedModel or a model of Keras 2 (.h5), and lists
candidates for x and y, the other placeholders, signatures, variables, loops,
and ops that draw numbers, wait, change variables, or reach outside of the graph
(files, Python, other processes). Nothing of the model is run, and no values are
read.

  gradfeed inspect --graph=model.pb
"""

import json

from absl import flags

from gradfeed.commands.flags import model_flags
from gradfeed.commands import tables
from gradfeed.errors import printable
from gradfeed.models import inventory

#: The flags that have to be given.
REQUIRED = ("graph",)

FLAGS = flags.FlagValues()
_load = model_flags.define(FLAGS, values=False)
_FORMAT = flags.DEFINE_enum(
    "format", "text", ["text", "json"], "How to print it.", flag_values=FLAGS)

_MOST_NAMES = 5


def main():
  """Prints the inventory of the model."""
  as_text = _FORMAT.value == "text"
  tabulate = tables.tabulate() if as_text else None
  with _load() as model:
    contents = inventory.inventory(model)
  print(as_lines(contents, tabulate) if as_text else
        json.dumps(contents, indent=2))


def as_lines(contents, tabulate):
  """Writes an inventory as text.

  Args:
    contents: dict, as `inventory.inventory` returns it.
    tabulate: the function of that name.

  Returns:
    str.
  """
  paragraphs = ["{}: {}, {} ops, {} variable{}.".format(
      printable(contents["path"]), contents["kind"], contents["ops"],
      len(contents["variables"]),
      "" if len(contents["variables"]) == 1 else "s")]
  for title, tensors in (
      ("Differentiate by one of these (--x), or by any layer",
       contents["x"]),
      ("Differentiate one of these (--y), or any layer", contents["y"]),
      ("Other placeholders, which may have to be fed (--feed{})".format(
          "; --row for a row at each point" if any(
              tensor["shape"] and tensor["shape"][0] is None
              for tensor in contents["feeds"]) else ""),
       contents["feeds"])):
    paragraphs.append(_table(title, tensors, tabulate))
  if contents["signatures"]:
    paragraphs.append("Signatures:\n\n" + "\n".join(
        "  {}: {} -> {}".format(printable(name), _joined(signature["inputs"]),
                                _joined(signature["outputs"]))
        for name, signature in sorted(contents["signatures"].items())))
  uninitialized = [variable["name"] for variable in contents["variables"]
                   if variable["has_value"] is False]
  for what, names in (
      ("While loops", contents["loops"]), ("Conditions", contents["branches"]),
      ("Ops that draw random numbers", contents["random"]),
      ("Ops that wait for data", contents["waiting"]),
      ("Ops that change a variable", contents["assigning"]),
      ("Ops that reach outside of the graph", _outside(contents["outside"])),
      ("Ops that reach outside of the graph when the model is loaded",
       _outside(contents["outside_when_loaded"])),
      ("Variables without a value", uninitialized)):
    if names:
      paragraphs.append("{} ({}): {}{}".format(
          what, len(names), ", ".join(map(printable, names[:_MOST_NAMES])),
          ", ..." if len(names) > _MOST_NAMES else ""))
  return "\n\n".join(paragraphs)


def _outside(ops):
  """Ops that reach outside of the graph, as text each."""
  return ["{} '{}' ({})".format(op["type"], op["name"], op["reach"])
          for op in ops]


def _table(title, tensors, tabulate):
  """A title and a table of tensors, as text.

  Args:
    title: str.
    tensors: list of dict with "name", "dtype" and "shape".
    tabulate: the function of that name.
  """
  if not tensors:
    return title + ":\n\n  none"
  lines = tabulate(
      [[printable(tensor["name"]), tensor["dtype"], _shape(tensor["shape"])]
       for tensor in tensors], tablefmt="plain", disable_numparse=True)
  return title + ":\n\n  " + lines.replace("\n", "\n  ")


def _shape(dims):
  """A shape as text, of a list of dimensions or None, each int or None."""
  if dims is None:
    return "unknown shape"
  return "[{}]".format(", ".join("?" if d is None else str(d) for d in dims))


def _joined(names):
  """A dict from key to the name of a tensor, as text: "key = name, ..."."""
  return ", ".join("{} = {}".format(*map(printable, item))
                   for item in sorted(names.items()))
