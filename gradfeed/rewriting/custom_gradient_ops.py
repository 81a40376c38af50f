"""Gradients that ops name by a number that only another process knows.

`tf.custom_gradient` registers the gradient of an op as "CustomGradient-7", and
a call of a `tf.function` as "PartitionedCall-7", where 7 counts within the
process. The name is part of a graph that is saved; the function is not. Where
the graph is read, the same name may belong to another function, or to none.

Ops of which that is so are made to name what refuses to be a gradient. As long
as no derivative goes through them, nothing happens.
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

#: A name that counts, perhaps as it was renamed here; a renamed one is in a
#: file too where a graph was written after it was loaded.
_COUNTING = re.compile(
    r"^(?:{}.*)?((CustomGradient|(?:Stateful)?PartitionedCall)-\d+)$".format(
        re.escape(_tf.SCOPE)))
_OF_COPY = re.compile("^{}[^/]+/".format(re.escape(_tf.SCOPE)))
_REFUSING = _tf.SCOPE + "unknown/"
_PREFIX = "gradfeed/"


def refusals(ops):
  """Those of `ops` that have a gradient which is not known here.

  Args:
    ops: iterable of `tf.Operation`, the path of a derivative.

  Yields:
    (op, the `UnsupportedGraphError` that names it).
  """
  for op in ops:
    if op.type in op_types.CALLS:
      # Of another call the nodes take the place, and are looked at there.
      if _tf.has_gradient(op) and not is_foreign(op):
        _check_body(op.graph, op.node_def, set())
    elif op.type in TYPES:
      name = _own(op)
      if name.startswith(_REFUSING) or is_foreign(op):
        yield op, _refusal(op.name, name)


def _check_body(graph, call, seen):
  """Does so for the nodes in a function that TensorFlow differentiates."""
  name = call.attr["f"].func.name
  definition = _tf.function_definition(graph, name)
  if name in seen or definition is None:
    return
  seen.add(name)
  for node in definition.node_def:
    if node.op in op_types.CALLS:
      _check_body(graph, node, seen)
    elif node.op in TYPES and _is_foreign_node(graph, name, node):
      raise _refusal(node.name, _named(node))


def is_foreign(op):
  """Whether `op` was read from a file with a name that is not its own here.

  A name is right where the op was made, by `tf.custom_gradient` or by the call
  of a `tf.function`; the stack that it was made on tells. What gradfeed copies
  it has seen to.

  Args:
    op: `tf.Operation`.
  """
  name = _own(op)
  return _counts(name) and not op.name.startswith(_tf.SCOPE) and (
      _tf.was_imported(op))


def mark(op, node):
  """Makes `node`, a copy of `op`, refuse where `op` has to be refused."""
  if op.type in TYPES and is_foreign(op):
    _refuse(node)


def mark_nodes(graph, function):
  """The same for the nodes in a copy of a function.

  Functions that gradfeed made have been seen to.

  Args:
    graph: `tf.Graph` whose library holds the function.
    function: FunctionDef, changed.
  """
  name = function.signature.name
  if name in cache.cache_of(graph).functions:
    return
  for node in function.node_def:
    if node.op in TYPES and _is_foreign_node(graph, name, node):
      _refuse(node)


def _is_foreign_node(graph, function, node):
  """`is_foreign` of the op that is a node of the function called so."""
  return _counts(_named(node)) and _tf.was_node_imported(
      graph, function, node.name)


def settle(graph_def, given=None):
  """Settles the gradients of all ops in a graph that was read from a file.

  Args:
    graph_def: GraphDef, changed.
    given: None, or dict from the name of an op, its counting name, or a pattern
      of either, to the gradient function of such ops, or to None: what they
      compute is differentiated.

  Raises:
    ArgumentError: a key fits no op; or a value is no function.
  """
  given = _Given(given or {})
  found = []
  for holder in [graph_def.node] + [
      function.node_def for function in graph_def.library.function]:
    for node in holder:
      counter = _counter(_named(node))
      if counter is None:
        continue
      if not counter.startswith("CustomGradient"):
        del node.attr[_ATTRIBUTE]  # The function itself is differentiated.
        continue
      found.append((node.name, counter))
      key = given.key_of(node.name, counter)
      if key is None:
        _refuse(node)
      elif given.functions[key] is None:
        del node.attr[_ATTRIBUTE]
      else:
        node.attr[_ATTRIBUTE].s = given.registered(key, counter).encode()
  given.check(found)


class _Given:
  """Functions that the caller gave, registered as they are needed."""

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
    """The key that stands for an op of these names, or None."""
    for key in self.functions:
      if any(fnmatch.fnmatchcase(name, key) for name in names):
        self._used.add(key)
        return key
    return None

  def registered(self, key, counter):
    """The name under which TensorFlow finds the function of `key`."""
    name = "{}{}/{}".format(
        self._prefix, list(self.functions).index(key), counter)
    if _tf.registered_gradient(name) is None:
      tf.RegisterGradient(name)(self.functions[key])
    return name

  def check(self, found):
    """Refuses keys that none of `found`, (op, counting name), bears."""
    lost = [key for key in self.functions if key not in self._used]
    if lost:
      raise errors.ArgumentError(
          "custom_gradients names {}, which is not there.".format(
              ", ".join(map(repr, lost))),
          "The model has {}.".format(", ".join(
              "'{}' ({})".format(*names) for names in found[:10]) or
              "no op with a gradient of its own"),
          "Name one of these, or leave custom_gradients out.")


def _own(op):
  """The name of the gradient that `op` has of its own, or ""."""
  try:
    return op.get_attr(_ATTRIBUTE).decode()
  except ValueError:
    return ""


def _named(node):
  """The same for a NodeDef."""
  if not _tf.has_own_gradient(node):
    return ""
  return node.attr[_ATTRIBUTE].s.decode()


def _counter(name):
  """The counting name that `name` is, or was made from, or None."""
  match = _COUNTING.match(name)
  return match and match.group(1)


def _counts(name):
  """Whether `name` counts, in the process in which an op got it."""
  return _counter(name) == name != "" and not _tf.is_restored_gradient(name)


def _refuse(node):
  """Makes a NodeDef name what refuses to be its gradient."""
  counter = _counter(_named(node))
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
  """Makes the gradient of `node` read what is in the graph that `node` is in.

  Args:
    node: NodeDef in a copy of a function; changed.
  """
  if not _tf.has_own_gradient(node):
    return
  name = node.attr[_ATTRIBUTE].s.decode()
  if name.startswith(_PREFIX):
    return
  node.attr[_ATTRIBUTE].s = (_PREFIX + name).encode()
  if _tf.registered_gradient(_PREFIX + name) is None:

    def gradient(op, *cotangents):
      return _rebound(name, op, cotangents)

    tf.RegisterGradient(_PREFIX + name)(gradient)


def keep_all(graph, graph_def):
  """Does so for all ops of a graph whose gradients a counting name tells.

  Args:
    graph: `tf.Graph`.
    graph_def: GraphDef of it, changed.
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
  """The gradients that the function registered as `name` gives for `op`."""
  apart = _tf.scratch_graph()
  with apart.as_default():
    held = [None if cotangent is None else tf.placeholder(
        cotangent.dtype, cotangent.shape) for cotangent in cotangents]
    # Ops that wait for a cotangent would wait for the placeholder.
    results = _tf.registered_gradient(name)(op, *[
        None if cotangent is None else tf.identity(cotangent)
        for cotangent in held])
    if not isinstance(results, (list, tuple)):
      results = [results]
    results = [None if result is None else tf.identity(result)
               for result in results]
  values = {placeholder.name: tf.convert_to_tensor(cotangent)
            for placeholder, cotangent in zip(held, cotangents)
            if cotangent is not None}
  for outer, inner in _tf.captures(apart):
    values[inner.name] = _tf.captured(_counterpart(name, op, outer))
  wanted = [result.name for result in results if result is not None]
  made = iter(tf.import_graph_def(
      apart.as_graph_def(), input_map=values, return_elements=wanted,
      name="own_gradient"))
  return [None if result is None else next(made) for result in results]


def _counterpart(name, op, tensor):
  """What `op` has in its graph where the gradient `name` reads `tensor`."""
  written_in = tensor.graph
  if written_in is op.graph or _tf.is_function(op.graph) and not (
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
  """The op of `graph` that `op` is a copy of, or None."""
  for other in graph.get_operations():
    if op.name.endswith(other.name) and _tf.has_own_gradient(other.node_def):
      own = other.get_attr(_ATTRIBUTE).decode()
      if own in (name, _PREFIX + name):
        return other
  return None
