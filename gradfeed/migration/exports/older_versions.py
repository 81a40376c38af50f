"""What a graph may have so that an older TensorFlow can read it.

An attribute that an op does not know, and an op that is not known, keep a whole
graph from being read; so does a shape that another version infers in another
way. TensorFlow never changes the default of an attribute, so that what has its
default is left out.
"""

import collections

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.migration.exports import ops_of_1_15

#: What a version knows: `ops`, the types of all ops; `added_attributes`, dict
#: from attributes that newer versions have to the types of their ops, a str.
Version = collections.namedtuple("Version", ["ops", "added_attributes"])

#: What the versions know that a graph can be written for.
VERSIONS = {"1.15": Version(ops_of_1_15.OPS, ops_of_1_15.ADDED_ATTRIBUTES)}

#: Attributes that change nothing of what an op computes on one machine: names
#: and hints, and what concerns a gradient that is not built yet.
_HARMLESS = frozenset([
    "allow_missing_files", "allowed_devices", "debug_name", "grad_a", "grad_b",
    "grad_x", "grad_y", "sparse_gradient", "validate_shape"])


def leave_out_defaults(graph_def):
  """Takes from all nodes what a reader knows: defaults, and shapes.

  Args:
    graph_def: GraphDef; changed.
  """
  defaults = {}
  for _, node in _nodes(graph_def):
    if node.op not in defaults:
      definition = _tf.op_definition(tf.get_default_graph(), node.op)
      defaults[node.op] = {
          attribute.name: attribute.default_value
          for attribute in (definition.attr if definition else ())
          if attribute.HasField("default_value")}
    node.attr.pop("_output_shapes", None)
    for name in list(node.attr):
      if name in defaults[node.op] and (
          node.attr[name] == defaults[node.op][name]):
        del node.attr[name]


def fit(graph_def, version):
  """Makes a graph, without defaults, one that an older TensorFlow can read.

  Args:
    graph_def: GraphDef; changed.
    version: str, one of `VERSIONS`.

  Raises:
    UnsupportedGraphError: it has ops that this version does not have, or that
      compute something else in it; names them.
  """
  known = VERSIONS[version]
  functions = {f.signature.name for f in graph_def.library.function}
  added = {name: set(ops.split())
           for name, ops in known.added_attributes.items()}
  problems = []
  for where, node in _nodes(graph_def):
    if node.op not in known.ops and node.op not in functions:
      problems.append("{} '{}'{}: there is no such op".format(
          node.op, node.name, where))
    for name in list(node.attr):
      if node.op in added.get(name, ()):
        if name not in _HARMLESS:
          problems.append("{} '{}'{}: its '{}' is not known".format(
              node.op, node.name, where, name))
        else:
          del node.attr[name]
  if problems:
    raise errors.UnsupportedGraphError(
        "TensorFlow {} cannot read what would be exported:{}".format(
            version, "".join("\n    " + problem for problem in problems[:10])),
        "It is made of what newer versions have added.",
        "Build it with ops that TensorFlow {} has; or, for newer versions "
        "alone, pass for_tf1=False (--nofor_tf1).".format(version))


def _nodes(graph_def):
  """Yields (where it is, for a message, NodeDef) for all nodes of a graph."""
  for node in graph_def.node:
    yield "", node
  for function in graph_def.library.function:
    for node in function.node_def:
      yield " in function '{}'".format(function.signature.name), node
