"""Digests of a model: of the ops behind tensors, and of what they read."""

import hashlib

import numpy as np

from gradfeed import _tf
from gradfeed.graph import traversal

#: Attributes of ops that may differ though the model is the same.
_OF_A_PROCESS = ("container", "shared_name", "token")


def digest_of(outputs, values):
  """The digest of the ops that run, and of the values that they read.

  Ops that gradfeed added are left out, so that a tensor and its derivative
  have one digest where they are computed from the same. Names of functions are
  left out too: they are other ones in another process.

  Args:
    outputs: list of `tf.Tensor`.
    values: list of arrays, of the variables that are read and of what is fed
      at every call.

  Returns:
    str of 64 hexadecimal digits.
  """
  ops = [op for name, op in sorted(traversal.ancestors(outputs).items())
         if not name.startswith(_tf.SCOPE)]
  contents = [
      " ".join([op.name, op.type] + [t.name for t in op.inputs]).encode()
      for op in ops]
  called = {}  # From the name of each function to its place among them.
  for op in ops:
    contents.extend(_attributes_of(op.node_def))
    contents.extend(_bodies_of(op.graph, op.node_def, called))
  contents.extend(map(_bytes_of, values))
  return sha256(contents)


def sha256(contents):
  """The digest of a list of bytes, in hexadecimal."""
  digest = hashlib.sha256()
  for content in contents:
    digest.update(str(len(content)).encode() + b":")
    digest.update(content)
  return digest.hexdigest()


def _attributes_of(node):
  """The attributes of a NodeDef that belong to the model, as list of bytes."""
  return [
      name.encode() + node.attr[name].SerializeToString(deterministic=True)
      for name in sorted(node.attr) if not name.startswith("_") and
      name not in _OF_A_PROCESS and not _names_functions(node.attr[name])]


def _bytes_of(value):
  """The content of an array; strings are told apart by their lengths."""
  array = np.asarray(value)
  if array.dtype.kind != "O":
    return np.ascontiguousarray(array).tobytes()
  return b"".join(
      b"%d:%s" % (len(text), text) for text in (
          each if isinstance(each, bytes) else str(each).encode()
          for each in array.ravel().tolist()))


def _names_functions(attribute):
  return attribute.WhichOneof("value") == "func" or bool(
      attribute.list.func)


def _bodies_of(graph, node, called):
  """What the functions compute that a NodeDef calls, as list of bytes.

  Args:
    graph: `tf.Graph`, whose library has them.
    node: NodeDef.
    called: dict of the functions that were met, which is added to.
  """
  contents = []
  for name in [callee.name for callee in _tf.callees(node, sorted(node.attr))]:
    is_known = name in called
    contents.append(b"%d" % called.setdefault(name, len(called)))
    definition = None if is_known else _tf.function_definition(graph, name)
    if definition is not None:
      for inner in definition.node_def:
        contents.append(inner.op.encode())
        contents.extend(_attributes_of(inner))
        contents.extend(_bodies_of(graph, inner, called))
  return contents
