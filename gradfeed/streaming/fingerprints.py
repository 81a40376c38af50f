"""What a stream belongs to: the model, the tensors, and the points."""

import hashlib

import numpy as np

from gradfeed import _tf
from gradfeed.graph import traversal

#: Attributes of ops that may differ though the model is the same.
_OF_A_PROCESS = ("container", "shared_name", "token")


def of_stream(f, source, chunk):
  """What the results depend on, beside the points.

  Args:
    f: `functions.Function`.
    source: `point_sources.Points`.
    chunk: int, the size of the chunks where rows depend on each other; or
      False.

  Returns:
    dict of what JSON can hold. An error names the keys whose values differ.
  """
  return {"model": _hash_of_model(f),
          "tensors": _sha256(
              [t.name.encode() for t in source.inputs + f.outputs]),
          "chunks": chunk}


def first_change(source, steps):
  """The first rows of an earlier call that are not the same now.

  Files that were not changed since then are not read again.

  Args:
    source: `point_sources.Points`.
    steps: list of dict, one for each entry of the journal.

  Returns:
    str, such as "rows 0 to 255"; or None where all are the same.
  """
  identity = source.identity()
  if not steps or identity is not None and identity == steps[-1]["identity"]:
    return None
  change = source.first_change(
      [pair for step in steps for pair in step["points"]])
  return change and "rows {} to {}".format(change[0], change[1] - 1)


def _sha256(contents):
  """The digest of a list of bytes, in hexadecimal."""
  digest = hashlib.sha256()
  for content in contents:
    digest.update(str(len(content)).encode() + b":")
    digest.update(content)
  return digest.hexdigest()


def _hash_of_model(f):
  """The digest of the ops that run, and of what all calls of `f` share.

  Ops that gradfeed added are left out. What the calls share are the values of
  variables, and those that are fed at every call.
  """
  ops = [op for name, op in sorted(traversal.ancestors(f.outputs).items())
         if not name.startswith(_tf.SCOPE)]
  contents = [
      " ".join([op.name, op.type] + [t.name for t in op.inputs]).encode()
      for op in ops]
  for op in ops:
    attributes = op.node_def.attr
    contents.extend(
        name.encode() + attributes[name].SerializeToString(deterministic=True)
        for name in sorted(attributes) if not name.startswith("_") and
        name not in _OF_A_PROCESS and
        attributes[name].WhichOneof("value") != "func")
  contents.extend(np.ascontiguousarray(value).tobytes()
                  for value in f.constants())
  return _sha256(contents)
