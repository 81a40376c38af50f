"""Ops whose gradient function is registered under a number of one process.

`tf.custom_gradient` registers the gradient of an op as "CustomGradient-7", and
a call of a `tf.function` as "PartitionedCall-7", where 7 counts within the
process. The name is part of a graph that is saved; the function is not. Where
the graph is read, the same name may belong to another function, or to none.

Such an op, *foreign* here, is made to name a gradient function that raises an
error, which does nothing as long as no derivative goes through the op. In what
follows, a *counting name* is a name of the form above.
"""

import fnmatch
import re
import uuid

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.graph import cache
from gradfeed.graph import op_types

_ATTRIBUTE = "_gradient_op_type"

#: The types of the ops that have such gradients.
TYPES = op_types.CALLS | frozenset(["IdentityN"])

#: A counting name, with or without the prefix that gradfeed gives it; one with
#: it is in a file too where a graph was written after it was loaded.
_COUNTING = re.compile(
    r"^(?:{}.*)?((CustomGradient|(?:Stateful)?PartitionedCall)-\d+)$".format(
        re.escape(_tf.SCOPE)))
#: The scopes of gradfeed that the name of a copied op begins with.
_OF_COPY = re.compile("^{}[^/]+/".format(re.escape(_tf.SCOPE)))
#: How the names of gradient functions begin that raise an error.
_REFUSING = _tf.SCOPE + "unknown/"
#: How the names begin of those that `keep` registers.
_PREFIX = "gradfeed/"


def refusals(ops):
  """Finds the ops whose gradient functions are not known in this process.

  Args:
    ops: iterable of `tf.Operation`, the path of a derivative.

  Yields:
    (op, the `UnsupportedGraphError` that names it).

  Raises:
    UnsupportedGraphError: such an op is in a function that an op calls.
  """
  for op in ops:
    if op.type in op_types.CALLS:
      # Any other call is inlined, and its nodes are checked as ops.
      if _tf.has_gradient(op) and not is_foreign(op):
        _check_body(op.graph, op.node_def, set())
    elif op.type in TYPES:
      name = _name_of_op(op)
      if name.startswith(_REFUSING) or is_foreign(op):
        yield op, _refusal(op.name, name)


def _check_body(graph, call, seen):
  """Raises an error if the function of a call has a node as in `refusals`.

  `seen` is the set of the names of the functions that were checked.
  """
  name = call.attr["f"].func.name
  definition = _tf.function_definition(graph, name)
  if name in seen or definition is None:
    return
  seen.add(name)
  for node in definition.node_def:
    if node.op in op_types.CALLS:
      _check_body(graph, node, seen)
    elif node.op in TYPES and _is_foreign_node(graph, name, node):
      raise _refusal(node.name, _name_of_node(node))


def is_foreign(op):
  """Whether `op` was read from a file with a counting name.

  The name is right in the process that made the op, by `tf.custom_gradient` or
  by the call of a `tf.function`; the traceback of the op tells which made it.
  Ops that gradfeed copied have the right name already.

  Args:
    op: `tf.Operation`.
  """
  name = _name_of_op(op)
  return _counts(name) and not op.name.startswith(_tf.SCOPE) and (
      _tf.was_imported(op))


def mark(op, node):
  """Makes the NodeDef of a foreign op name a gradient that raises an error."""
  if op.type in TYPES and is_foreign(op):
    _refuse(node)


def mark_nodes(graph, function):
  """Makes foreign nodes of a function name a gradient that raises an error.

  The functions that gradfeed made are left as they are: they were changed when
  they were made.

  Args:
    graph: `tf.Graph` whose library holds the function.
    function: FunctionDef, a copy of it; changed.
  """
  name = function.signature.name
  if name in cache.cache_of(graph).functions:
    return
  for node in function.node_def:
    if node.op in TYPES and _is_foreign_node(graph, name, node):
      _refuse(node)


def _is_foreign_node(graph, function, node):
  """Whether a NodeDef in the function called `function` is foreign."""
  return _counts(_name_of_node(node)) and _tf.was_node_imported(
      graph, function, node.name)


def settle(graph_def, given=None):
  """Replaces the counting names in a graph that was read from a file.

  Args:
    graph_def: GraphDef; changed.
    given: None, or dict from the name of an op, its counting name, or a pattern
      of either, to the gradient function of such ops, or to None where what
      they compute is to be differentiated.

  Raises:
    ArgumentError: a key fits no op; or a value is no function.
  """
  given = _Given(given or {})
  counting = []
  for holder in [graph_def.node] + [
      function.node_def for function in graph_def.library.function]:
    for node in holder:
      counter = _counter(_name_of_node(node))
      if counter is None:
        continue
      if not counter.startswith("CustomGradient"):
        del node.attr[_ATTRIBUTE]  # The function itself is differentiated.
        continue
      counting.append((node.name, counter))
      key = given.key_of(node.name, counter)
      if key is None:
        _refuse(node)
      elif given.functions[key] is None:
        del node.attr[_ATTRIBUTE]
      else:
        node.attr[_ATTRIBUTE].s = given.registered(key, counter).encode()
  given.check(counting)


class _Given:
  """The gradient functions that the caller gave, registered when they are used.

  Attributes:
    functions: dict from the name or pattern to the function, or to None.
  """

  def __init__(self, functions):
    if not isinstance(functions, dict) or any(
        not isinstance(key, str) or not (value is None or callable(value))
        for key, value in functions.items()):
      raise errors.ArgumentError(
          "custom_gradients={!r} cannot be used.".format(functions),
          "It is a dict from the name of an op, or of its gradient, to a "
          "function (op, *grads), or to None.",
          "Pass custom_gradients={'IdentityN': function}.")
    self.functions = functions
    self._used = set()
    self._prefix = "{}given/{}/".format(_tf.SCOPE, uuid.uuid4().hex)

  def key_of(self, *names):
    """The first key that fits one of the names of an op, or None."""
    for key in self.functions:
      if any(fnmatch.fnmatchcase(name, key) for name in names):
        self._used.add(key)
        return key
    return None

  def registered(self, key, counter):
    """The name under which the function of `key` is, or is now, registered."""
    name = "{}{}/{}".format(
        self._prefix, list(self.functions).index(key), counter)
    if _tf.registered_gradient(name) is None:
      tf.RegisterGradient(name)(self.functions[key])
    return name

  def check(self, counting):
    """Raises `ArgumentError` if a key fits none of the (op, counting name)."""
    lost = [key for key in self.functions if key not in self._used]
    if lost:
      raise errors.ArgumentError(
          "custom_gradients names {}, which is not there.".format(
              ", ".join(map(repr, lost))),
          "The model has {}.".format(", ".join(
              "'{}' ({})".format(*names) for names in counting[:10]) or
              "no op with a gradient of its own"),
          "Name one of these, or leave custom_gradients out.")


def _name_of_op(op):
  """The name of its gradient function that an op has in an attribute, or ""."""
  try:
    return op.get_attr(_ATTRIBUTE).decode()
  except ValueError:
    return ""


def _name_of_node(node):
  """The name of its gradient function that a NodeDef has, or ""."""
  if not _tf.has_own_gradient(node):
    return ""
  return node.attr[_ATTRIBUTE].s.decode()


def _counter(name):
  """The counting name that `name` is or was made from, or None."""
  match = _COUNTING.match(name)
  return match and match.group(1)


def _counts(name):
  """Whether `name` is a counting name that another process may have given."""
  return _counter(name) == name != "" and not _tf.is_restored_gradient(name)


def _refuse(node):
  """Makes a NodeDef with a counting name name a gradient that raises an error.

  A call of a function loses the name: the function itself is differentiated.
  """
  counter = _counter(_name_of_node(node))
  if not counter.startswith("CustomGradient"):
    del node.attr[_ATTRIBUTE]
    return
  name = _REFUSING + counter
  node.attr[_ATTRIBUTE].s = name.encode()
  if _tf.registered_gradient(name) is None:

    def refuse(op, *unused_cotangents):
      raise _refusal(op.name, name)

    tf.RegisterGradient(name)(refuse)


def _refusal(op_name, name):
  """The `UnsupportedGraphError` for an op with the gradient called `name`."""
  return errors.UnsupportedGraphError(
      "The gradient of '{}' is not known.".format(_OF_COPY.sub("", op_name)),
      "It has one of its own (tf.custom_gradient, '{}'), a Python function of "
      "the process that built the graph, which no file holds; in this process "
      "the name may belong to another function.".format(_counter(name)),
      "Give it to gradfeed.load(path, custom_gradients={{'{}': function}}), "
      "function(op, *grads) as for tf.RegisterGradient, or None where what the "
      "op computes is to be differentiated; or build the model in this "
      "process.".format(_counter(name)))


def keep(node):
  """Makes the gradient of a copied node read tensors of the node's own graph.

  A function given to `tf.custom_gradient` may read tensors of the graph that it
  was written in, of which the copy has copies.

  Args:
    node: NodeDef in a copy of a function; changed.
  """
  if not _tf.has_own_gradient(node):
    return
  name = _name_of_node(node)
  if name.startswith(_PREFIX):
    return
  node.attr[_ATTRIBUTE].s = (_PREFIX + name).encode()
  if _tf.registered_gradient(_PREFIX + name) is None:

    def gradient(op, *cotangents):
      return _rebound(name, op, cotangents)

    tf.RegisterGradient(_PREFIX + name)(gradient)


def keep_all(graph, graph_def):
  """Makes all ops of a graph keep their gradients in a copy of the graph.

  Foreign ones get a gradient that raises an error; those of
  `tf.custom_gradient` one that reads tensors of the copy.

  Args:
    graph: `tf.Graph`.
    graph_def: GraphDef of it; changed.
  """
  nodes = list(graph_def.node)
  for node in nodes:
    mark(graph.get_operation_by_name(node.name), node)
  for function in graph_def.library.function:
    mark_nodes(graph, function)
    nodes.extend(function.node_def)
  for node in nodes:
    if node.op == "IdentityN":
      keep(node)


def _rebound(name, op, cotangents):
  """The gradients that the function registered as `name` gives for `op`.

  They are built in a scratch graph first, so that it is known which tensors of
  other graphs the function reads.

  Args:
    name: str.
    op: `tf.Operation` in a copy of a graph or function.
    cotangents: list of `tf.Tensor` or None, one for each output of `op`.

  Returns:
    list of `tf.Tensor` or None, in the graph of `op`.
  """
  scratch = _tf.scratch_graph()
  with scratch.as_default():
    placeholders = [None if cotangent is None else tf.placeholder(
        cotangent.dtype, cotangent.shape) for cotangent in cotangents]
    # Ops that wait for a cotangent would wait for the placeholder.
    results = _tf.registered_gradient(name)(op, *[
        None if placeholder is None else tf.identity(placeholder)
        for placeholder in placeholders])
    if not isinstance(results, (list, tuple)):
      results = [results]
    results = [None if result is None else tf.identity(result)
               for result in results]
  values = {placeholder.name: tf.convert_to_tensor(cotangent)
            for placeholder, cotangent in zip(placeholders, cotangents)
            if cotangent is not None}
  for outer, inner in _tf.captures(scratch):
    values[inner.name] = _tf.captured(_counterpart(name, op, outer))
  graph_def = scratch.as_graph_def()
  new = _tf.import_nodes(scratch, graph_def.node, values, "own_gradient",
                         graph_def.library.function)
  return [None if result is None else new[result.op.name].outputs[0]
          for result in results]


def _counterpart(name, op, tensor):
  """The tensor that the gradient of a copied op reads in place of `tensor`.

  Args:
    name: str, the name of the gradient function.
    op: `tf.Operation`, the copy.
    tensor: `tf.Tensor` that the function reads, of any graph.

  Returns:
    `tf.Tensor`, one of the graph of `op` or one that it can capture.

  Raises:
    UnsupportedGraphError: the copy has no such tensor.
  """
  written_in = tensor.graph
  if written_in is op.graph or _tf.is_around(written_in, op.graph) and not (
      _tf.is_function(written_in) or _tf.is_inside(tensor.op)):
    return tensor
  original = _original(name, op, written_in)
  if original is not None:
    prefix = op.name[:len(op.name) - len(original.name)]
    inputs = [t.name for t in getattr(written_in, "inputs", [])]
    if not prefix and tensor.name in inputs:
      return op.graph.inputs[inputs.index(tensor.name)]
    try:
      return op.graph.get_tensor_by_name(prefix + tensor.name)
    except (KeyError, ValueError):
      pass
  raise errors.UnsupportedGraphError(
      "The gradient of '{}' by tf.custom_gradient cannot be taken along with "
      "a copy of the function that it is in.".format(op.name),
      "It reads '{}', which is made outside of that function.".format(
          tensor.name),
      "Make what it reads in the same loop or branch (tf.identity does), and "
      "let no tf.function or inner branch stand around it.")


def _original(name, op, graph):
  """The op of `graph` with the gradient `name` that `op` copies, or None."""
  for candidate in graph.get_operations():
    if op.name.endswith(candidate.name) and (
        _name_of_op(candidate) in (name, _PREFIX + name)):
      return candidate
  return None
