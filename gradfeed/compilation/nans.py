"""Maxima and minima that pass NaN on, as those of TensorFlow do.

A maximum of XLA on the CPU ignores NaN: a network that has become NaN would
give numbers again.
"""

import numpy as np

from gradfeed._tf import tf

#: Type of an op to the name of its result, and which inputs may be NaN.
_IGNORING = {
    "Max": ("output", (0,)),
    "Maximum": ("z", (0, 1)),
    "Min": ("output", (0,)),
    "Minimum": ("z", (0, 1)),
}
_REDUCING = ("Max", "Min")

_FLOATING = frozenset(dtype.as_datatype_enum for dtype in (
    tf.bfloat16, tf.float16, tf.float32, tf.float64))


def pass_on(graph_def):
  """Has NaN passed on in a GraphDef and in its functions; changes it."""
  _pass_on(graph_def.node, lambda name, unused_output: name)
  for function in graph_def.library.function:
    renamed = _pass_on(
        function.node_def,
        lambda name, output: "{}:{}:0".format(name, output))
    for output, name in list(function.ret.items()):
      function.ret[output] = renamed.get(name, name)


def _pass_on(nodes, named):
  """Does the same for some nodes.

  Args:
    nodes: repeated field of NodeDef.
    named: function from the name of a node and that of its result to how the
      result is named where it is read.

  Returns:
    dict from how results were named to how they are now.
  """
  renamed = {}
  for node in list(nodes):
    if node.op == "ClipByValue":
      _take_apart(nodes, node, named)
      renamed[named(node.name, "output")] = named(node.name, "z")
  renamed = {old: new for old, new in renamed.items() if old != new}
  renamed.update(_with_nan(nodes, named, renamed))
  for node in nodes:
    for i, name in enumerate(node.input):
      if name in renamed:
        node.input[i] = renamed[name]
  return renamed


def _take_apart(nodes, node, named):
  """Makes a ClipByValue a maximum of a minimum.

  That of XLA takes the upper limit where the limits cross, TensorFlow the
  lower.
  """
  smaller = _node(nodes, node.name + "/limited", "Minimum",
                  [node.input[0], node.input[2]], T=node.attr["T"].type)
  node.op = "Maximum"
  node.input[:] = [named(smaller.name, "z"), node.input[1]]


def _with_nan(nodes, named, before):
  """Adds what passes NaN on; returns which results are named otherwise.

  Args:
    nodes, named: as in `_pass_on`.
    before: dict from the names of results to what they were renamed to.
  """
  renamed = {}
  for node in list(nodes):
    if node.op in _IGNORING and node.attr["T"].type in _FLOATING:
      output, inputs = _IGNORING[node.op]
      name = node.name
      result = _kept(nodes, node, [node.input[i] for i in inputs], named)
      if named(name, output) != result:
        renamed[named(name, output)] = result
        renamed.update((old, result) for old, new in before.items()
                       if new == named(name, output))
  return renamed


def _kept(nodes, node, given, named):
  """Adds nodes that take NaN from `given` in the place of what `node` gives.

  The last of them gets the name of `node`; how its result is named.
  """
  name, dtype, reduces = node.name, node.attr["T"].type, node.op in _REDUCING
  axis = node.input[1]
  output, _ = _IGNORING[node.op]
  node.name = name + "/ignoring"
  result = named(node.name, output)
  for i, value in reversed(list(enumerate(given))):
    is_nan = _node(nodes, "{}/is_nan_{}".format(name, i), "NotEqual",
                   [value, value], T=dtype)
    is_nan.attr["incompatible_shape_error"].b = True
    chosen, known = named(is_nan.name, "z"), value
    if reduces:
      anywhere = _node(nodes, name + "/any", "Any", [chosen, axis],
                       Tidx=node.attr["Tidx"].type)
      anywhere.attr["keep_dims"].b = node.attr["keep_dims"].b
      constant = _node(nodes, name + "/nan", "Const", [], dtype=dtype)
      constant.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(
          np.nan, tf.as_dtype(dtype)))
      chosen = named(anywhere.name, "output")
      known = named(constant.name, "output")
    last = _node(nodes, name if not i else name + "/not_second", "SelectV2",
                 [chosen, known, result], T=dtype)
    result = named(last.name, "output")
  return result


def _node(nodes, name, op, inputs, **types):
  """Adds a NodeDef; `types` are attributes with dtypes, as numbers."""
  node = nodes.add(name=name, op=op, input=inputs)
  for key, dtype in types.items():
    node.attr[key].type = dtype
  return node
