"""Names of TensorFlow in a file that are gone in TF 2, by reading it."""

import ast

from gradfeed import _tf

_ROOTS = {"tensorflow": "", "tensorflow.compat.v1": "",
          "tensorflow.compat.v2": None}


def gone_names(path):
  """The names that a file uses and that TF 2 does not have.

  Args:
    path: str, a file of Python.

  Returns:
    list of (line, name), in the order of the lines; empty where the file
    cannot be read.
  """
  try:
    with open(path, "rb") as source:
      tree = ast.parse(source.read())
  except (OSError, SyntaxError, ValueError):
    return []
  aliases, found = {}, set()
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      for one in node.names:
        if one.name in _ROOTS and (one.asname or "." not in one.name):
          aliases[one.asname or one.name] = _ROOTS[one.name]
    elif isinstance(node, ast.ImportFrom):
      _read_from(node, aliases, found)
  for node in ast.walk(tree):
    parts = _parts(node) if isinstance(node, ast.Attribute) else None
    if parts and aliases.get(parts[0]) is not None:
      gone = _gone(parts[1:])
      if gone:
        found.add((node.lineno, gone))
  return sorted(found)


def _read_from(node, aliases, found):
  """Reads `from tensorflow import ...`."""
  module = node.module or ""
  root = module.split(".")
  if root[0] != "tensorflow" or root[1:2] == ["python"]:
    return
  inner = root[1:]
  for one in node.names:
    full = ".".join(root + [one.name])
    if full in _ROOTS:
      aliases[one.asname or one.name] = _ROOTS[full]
    elif full != "tensorflow.compat":
      gone = _gone(inner + [one.name])
      if gone:
        found.add((node.lineno, gone))


def _parts(node):
  parts = []
  while isinstance(node, ast.Attribute):
    parts.insert(0, node.attr)
    node = node.value
  return [node.id] + parts if isinstance(node, ast.Name) else None


def _gone(parts):
  """`tf.a.b`, as far as TF 2 does not have it; "" where it has all."""
  if parts[:2] == ["compat", "v1"]:
    parts = parts[2:]
  holder = _tf.api_of_v2()
  for i, part in enumerate(parts):
    if isinstance(holder, type):
      return ""  # Attributes of classes are not looked at.
    try:
      holder = getattr(holder, part)
    except (AttributeError, ImportError):
      is_there = i and not hasattr(holder, "__path__")
      return "" if is_there and not hasattr(holder, "__name__") else (
          "tf." + ".".join(parts[:i + 1]))
    if not hasattr(holder, "__path__") and callable(holder):
      return ""
  return ""
