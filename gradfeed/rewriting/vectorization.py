"""One computation for each of many values, by a number of ops that is fixed.

The computation is built in a scratch graph, where TensorFlow's parallel_for
turns it into one on whole stacks of values; where an op has no such form, a
loop runs it for one value after the other, with the same numbers. Only what
the results need then moves to the user's graph: an attempt that fails leaves
nothing behind.
"""

import contextlib

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.graph import op_types
from gradfeed.graph import traversal
from gradfeed.rewriting import cloning
from gradfeed.rewriting import functionalization

#: Constants up to this size are known in the scratch graph: axes, shapes.
_LARGEST_CONSTANT = 1024


class ScratchGraph:
  """A graph to build in, beside the user's, and the way back.

  Attributes:
    graph: the user's `tf.Graph`.
  """

  def __init__(self, graph):
    self.graph = graph
    self._scratch = _tf.scratch_graph()
    self._holders = {}
    self._befores = []
    self._fills_up = False

  def building(self):
    """Ops made inside go to the scratch graph."""
    return self._scratch.as_default()

  def placeholder_for(self, tensor):
    """What stands in the scratch graph for a tensor of the user's."""
    holder = self._holders.get(tensor.name)
    if holder is None:
      with self._scratch.as_default(), tf.control_dependencies(None):
        holder = self._holders[tensor.name] = self._hold(tensor)
    return holder

  def _hold(self, tensor):
    if tensor.op.type == "Const":
      value = tensor.op.get_attr("value")
      if tf.TensorShape(value.tensor_shape).num_elements() <= _LARGEST_CONSTANT:
        return tf.constant(tf.make_ndarray(value), tensor.dtype, name="known")
    shape = tensor.shape
    if tensor.op.type == "DynamicStitch" and shape.ndims and not _tf.IS_TF2:
      shape = [None] + shape.as_list()[1:]  # TF 1 counts 1 where nothing is.
    return tf.placeholder(tensor.dtype.base_dtype, shape, name="held")

  def row_reader(self, tensor, axis):
    """Picks rows of a tensor of the user's, one at a time.

    Args:
      tensor: `tf.Tensor` of the user's graph.
      axis: int, the axis of its rows.

    Returns:
      function from an index to a tensor with one row, along the same axis.
    """
    whole = self.placeholder_for(tensor)
    padding = [[0, int(i == axis)] for i in range(tensor.shape.ndims)]
    filled_up = tf.pad(whole, padding)
    last = tf.shape(whole)[axis]

    def pick(i):
      read = filled_up if self._fills_up else whole
      # One row may stand for all; and there may be no row i.
      own = tf.where_v2(_tf.captured(last) > 1,
                        tf.minimum(i, _tf.captured(last)), 0)
      return tf.expand_dims(
          tf.gather(_tf.captured(read), own, axis=axis), axis)

    return pick

  def map_rows(self, body, count, chunk=None, one_by_one=True):
    """`body(i)` for all i below `count`, stacked; inside of `building()`.

    Args:
      body: function from an int32 scalar tensor to a list of tensors of the
        scratch graph; called several times. It has to bear an i that is not
        below `count`.
      count: int or int32 scalar tensor, how many.
      chunk: int, how many at a time, or None for all: memory grows with it.
      one_by_one: bool; whether a loop will do where there is no other way.

    Returns:
      list of tensors, each with `count` as its first axis.

    Raises:
      UnsupportedGraphError: there is no way.
    """
    # Of nothing at all, few ops know the shape.
    at_least_one = (max(count, 1) if isinstance(count, int)
                    else tf.maximum(count, 1))
    self._fills_up = chunk is not None or not isinstance(count, int)
    try:
      stacked = _vectorized(body, at_least_one, chunk)
    except errors.GradfeedError:
      raise
    except Exception:  # pylint: disable=broad-except
      # The vectorizer raises whatever its converters stumble over.
      with _told(self.graph):
        if not one_by_one:
          raise
        stacked = _tf.map_rows_in_loop(body, _dtypes(body), at_least_one)
    if chunk is None and isinstance(count, int) and count:
      return stacked
    return [part[:count] for part in stacked]

  def copy(self, part, found, replaced, label, same_shapes=False):
    """Copies a part of the user's graph into the default graph.

    Args:
      part: set of names of the ops to copy.
      found: dict from name to op that holds them, inputs before users.
      replaced: dict from tensor name to the tensor, of the scratch graph, that
        is read in its place.
      label: str, the name scope of the copy.
      same_shapes: bool; whether each tensor has the static shape that it has
        in the user's graph, which ops may count on.

    Returns:
      function from the name of a tensor to the tensor that has its value here.
    """
    made = cloning.subgraph_of(self.graph, part, found, replaced)
    self._befores.extend(before for _, before in made.waits)
    if same_shapes:
      for node in made.nodes:
        node.attr["_output_shapes"].list.shape.extend(
            t.shape.as_proto() for t in found[node.name].outputs)
    here = tf.get_default_graph()
    functions = _library(self.graph, made.nodes, here)
    external = {name: _tf.captured(
        replaced[name] if name in replaced else self.placeholder_for(tensor))
                for name, tensor in made.external.items()}
    new = cloning.import_subgraph(self.graph, made._replace(
        functions=made.functions + functions), external, label)
    _tf.show_bodies(here)

    def lookup(name):
      if name in replaced:
        return replaced[name]
      if name.split(":")[0] in part:
        return cloning.output_of(made, new, name)
      return self.placeholder_for(self.graph.get_tensor_by_name(name))

    return lookup

  def copy_functional(self, part, found, freed):
    """Copies a part of the user's graph without control flow of v1.

    Args:
      part: set of names of the ops to copy.
      found: dict from name to op that holds them, inputs before users.
      freed: names of the ops of which the copy is an Identity.

    Returns:
      dict from the names of tensors to their copies.
    """
    made = cloning.subgraph_of(self.graph, part, found, {})
    for node in made.nodes:
      if node.name in freed:
        node.op = "Identity"
    self._befores.extend(
        before for _, before in made.waits if not _tf.is_inside(before))
    values = {name: self.placeholder_for(tensor)
              for name, tensor in made.external.items()}
    return functionalization.emit(
        made.nodes, values,
        lambda name: self.graph.get_tensor_by_name(name).shape,
        traversal.functions_called(self.graph, made.nodes))

  def export(self, results, label):
    """Moves what `results` need to the user's graph.

    Args:
      results: list of tensors of the scratch graph.
      label: str, the last part of their name scope.

    Returns:
      list of `tf.Tensor` of the user's graph.
    """
    held = {holder.name: name for name, holder in self._holders.items()}
    found = traversal.ancestors(results, cut=held)
    part = set(found)
    originals = {holder: self.graph.get_tensor_by_name(name)
                 for holder, name in held.items()}
    # A handle goes on as it is, where `nodes_of` would ask for its value.
    made = cloning.subgraph_of(self._scratch, part, found, {
        holder: tensor for holder, tensor in originals.items()
        if tensor.dtype != tf.resource})
    functions = _library(self._scratch, made.nodes, self.graph)
    with _told(self.graph):
      new = cloning.import_subgraph(
          self._scratch, made._replace(functions=functions),
          {name: originals.get(name, tensor)
           for name, tensor in made.external.items()}, label)
    self._order(new, part, found)
    return [originals[result.name] if result.name in held
            else cloning.output_of(made, new, result.name)
            for result in results]

  def _order(self, new, part, found):
    """What waited for ops outside of the copied part still waits for them."""
    befores = list({before.name: before for before in self._befores}.values())
    if befores:
      for name, op in new.items():
        if any(t.op.name not in part for t in found[name].inputs):
          _tf.add_control_inputs(op, befores)


@contextlib.contextmanager

def _told(graph):
  """What TensorFlow raises inside is told as an error of gradfeed."""
  try:
    yield
  except errors.GradfeedError:
    raise
  except Exception as error:  # pylint: disable=broad-except
    raise errors.UnsupportedGraphError(
        "TensorFlow cannot repeat a part of {} for many values.".format(graph),
        "It raises {}: {}".format(
            type(error).__name__, str(error).split("\n")[0]),
        "Use `vjp` or `gradient`, one value after the other, or differentiate "
        "by a tensor further on the way.") from error


def _library(graph, nodes, other):
  """The functions of `graph` that `nodes` call and that `other` lacks."""
  return [definition for definition in traversal.functions_called(graph, nodes)
          if _tf.function_definition(
              other, definition.signature.name) is None]


#: Control flow of v1, and what it keeps for a run: a copy of a part of it does
#: not run as it does in its place.
_PRIMITIVES = (op_types.CONTROL_FLOW_V1 | op_types.STACK_OPS |
               op_types.PER_RUN_STATE)


def is_plain(ops):
  """Whether copies of `ops` on other values are what they are themselves.

  Not with control flow of v1; not with what is random; and not with a gradient
  of their own (`tf.custom_gradient`), which reads tensors beside them.
  """
  return not any(op.type in _PRIMITIVES or op_types.RANDOM.search(op.type) or
                 _tf.has_own_gradient(op.node_def) for op in ops)


#: Ops of which TensorFlow's vectorized form mixes up the axes.
_DISTRUSTED = frozenset(["TensorListGather"])


def _vectorized_at_once(body, count):
  """`_tf.vectorized`, unless the numbers could be wrong."""
  graph = tf.get_default_graph()
  before = len(graph.get_operations())
  results = _tf.vectorized(body, count)
  nodes = [op.node_def for op in graph.get_operations()[before:]]
  for definition in traversal.functions_called(graph, nodes):
    nodes.extend(definition.node_def)
  if any(node.op in _DISTRUSTED for node in nodes):
    raise ValueError("An op that is not vectorized rightly is among them.")
  return results


def _vectorized(body, count, chunk):
  if chunk is None:
    return _vectorized_at_once(body, count)
  # The last chunk is filled up, so that there is one form for all.
  stacked = _tf.map_rows_in_loop(
      lambda j: _vectorized_at_once(lambda i: body(j * chunk + i), chunk),
      _dtypes(body), (count + chunk - 1) // chunk)
  return [tf.reshape(part, tf.concat([[-1], tf.shape(part)[2:]], 0))
          for part in stacked]


def _dtypes(body):
  """The dtypes of the results; what is built to know them is never run."""
  return [result.dtype for result in body(tf.constant(0))]
