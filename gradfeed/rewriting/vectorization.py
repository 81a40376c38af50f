"""Maps a computation over many values, by a fixed number of ops.

The computation is built in a scratch graph, where TensorFlow's parallel_for
turns it into one on whole stacks of values; where an op has no such form, a
loop runs it for one value after the other, with the same results. Only what
the results need is then copied to the user's graph: an attempt that fails adds
nothing to it.
"""

import contextlib
import itertools
import uuid

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.graph import cache
from gradfeed.graph import op_types
from gradfeed.graph import traversal
from gradfeed.rewriting import cloning
from gradfeed.rewriting import functionalization
from gradfeed.rewriting import tensor_lists

#: Constants of up to so many elements are constants in the scratch graph too:
#: they may be axes or shapes.
_LARGEST_CONSTANT = 1024


class ScratchGraph:
  """A graph to build in, whose results can be moved to the user's graph.

  Tensors of the user's graph have placeholders in it, which are replaced by the
  tensors themselves at the end.

  Attributes:
    graph: the user's `tf.Graph`.
    builds_whole_stacks: bool, whether what `map_rows` builds now is for all
      indices at once.
  """

  def __init__(self, graph):
    self.graph = graph
    self.builds_whole_stacks = False
    self._scratch = _tf.scratch_graph()
    self._placeholders = {}
    self._waited_for = []
    self._fills_up = False
    self._is_vectorizing = False

  def building(self):
    """A context in which new ops go to the scratch graph."""
    return self._scratch.as_default()

  def placeholder_for(self, tensor):
    """The tensor of the scratch graph for one of the user's graph.

    Args:
      tensor: `tf.Tensor` of the user's graph.

    Returns:
      `tf.Tensor`, a placeholder, or a constant for a small constant; the same
      one for each call.
    """
    if tensor.name not in self._placeholders:
      with self._scratch.as_default(), tf.control_dependencies(None):
        self._placeholders[tensor.name] = self._new_placeholder(tensor)
    return self._placeholders[tensor.name]

  def put_in_place_of(self, placeholder, tensor):
    """Has a placeholder of the scratch graph stand for `tensor`."""
    self._placeholders[tensor.name] = placeholder

  def _new_placeholder(self, tensor):
    if tensor.op.type == "Const":
      value = tensor.op.get_attr("value")
      if tf.TensorShape(value.tensor_shape).num_elements() <= _LARGEST_CONSTANT:
        return tf.constant(tf.make_ndarray(value), tensor.dtype, name="known")
    shape = tensor.shape
    if tensor.op.type == "DynamicStitch" and shape.ndims and not _tf.IS_TF2:
      shape = [None] + shape.as_list()[1:]  # TF 1 infers 1 for none.
    return tf.placeholder(tensor.dtype.base_dtype, shape, name="held")

  def row_reader(self, tensor, axis):
    """A function that reads single rows of a tensor of the user's graph.

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
    """Stacks `body(i)` for all i below `count`; called inside `building()`.

    Args:
      body: function from an int32 scalar tensor to a list of tensors of the
        scratch graph; called several times. It may be called with an i that
        is not below `count`.
      count: int or int32 scalar tensor.
      chunk: int, how many i are computed at a time, or None for all: memory
        grows with it.
      one_by_one: bool; whether a loop that computes one i at a time may be
        built where TensorFlow cannot vectorize an op.

    Returns:
      list of tensors, each with `count` as its first axis.

    Raises:
      UnsupportedGraphError: TensorFlow cannot build it.
    """
    if chunk is not None and isinstance(count, int) and count <= chunk:
      chunk = None  # One chunk has them all, and need not be filled up.
    # Few ops give the right shape for no values at all.
    at_least_one = (max(count, 1) if isinstance(count, int)
                    else tf.maximum(count, 1))
    self._fills_up = chunk is not None or not isinstance(count, int)
    self._is_vectorizing = True
    self.builds_whole_stacks = chunk is None
    try:
      stacked = _vectorized(body, at_least_one, chunk)
    except errors.GradfeedError:
      raise
    except Exception:  # pylint: disable=broad-except
      # The converters of parallel_for raise errors of any class.
      self._is_vectorizing = self.builds_whole_stacks = False
      with _translated_errors(self.graph):
        if not one_by_one:
          raise
        stacked = _tf.map_rows_in_loop(body, _dtypes(body), at_least_one)
    finally:
      self._is_vectorizing = self.builds_whole_stacks = False
    if chunk is None and isinstance(count, int) and count:
      return stacked
    return [result[:count] for result in stacked]

  def copy(self, op_names, ops, replaced, label, same_shapes=False):
    """Copies ops of the user's graph into the default graph.

    Args:
      op_names: set of names of the ops to copy.
      ops: dict from name to op that holds them, inputs before users.
      replaced: dict from tensor name to the tensor, of the scratch graph, that
        is read in its place.
      label: str, the name scope of the copy.
      same_shapes: bool; whether each tensor has the static shape that it has
        in the user's graph, which ops may count on.

    Returns:
      function from the name of a tensor to the tensor that has its value here.
    """
    subgraph = cloning.subgraph_of(self.graph, op_names, ops, replaced)
    self._waited_for.extend(before for _, before in subgraph.waits)
    if self._is_vectorizing and any(
        tensor_lists.is_of_unknown_zeros(tensor)
        for name, tensor in subgraph.external.items() if name not in replaced):
      raise ValueError("TensorFlow would read elements that are not there.")
    if same_shapes:
      for node in subgraph.nodes:
        node.attr["_output_shapes"].list.shape.extend(
            t.shape.as_proto() for t in ops[node.name].outputs)
        if node.op == "Select" and _is_elementwise(ops[node.name]):
          node.op = "SelectV2"  # Vectorized in a tenth of the ops.
    here = tf.get_default_graph()
    functions = _library(self.graph, subgraph.nodes, here)
    external = {name: _tf.captured(
        replaced[name] if name in replaced else self.placeholder_for(tensor))
                for name, tensor in subgraph.external.items()}
    new = cloning.import_subgraph(self.graph, subgraph._replace(
        functions=subgraph.functions + functions), external, label)
    _tf.show_bodies(here)

    def lookup(name):
      if name in replaced:
        return replaced[name]
      if name.split(":")[0] in op_names:
        return cloning.output_of(subgraph, new, name)
      return self.placeholder_for(self.graph.get_tensor_by_name(name))

    return lookup

  def copy_functional(self, op_names, ops, freed, replaced):
    """Copies ops of the user's graph, with functional control flow.

    Args:
      op_names: set of names of the ops to copy.
      ops: dict from name to op that holds them, inputs before users.
      freed: names of the ops of which the copy is an Identity.
      replaced: dict from the names of handles of variables to the tensors of
        the user's graph with their values, which are read in their place.

    Returns:
      dict from the names of tensors to their copies.
    """
    subgraph = cloning.subgraph_of(self.graph, op_names, ops, replaced)
    for node in subgraph.nodes:
      if node.name in freed:
        node.op = "Identity"
    self._waited_for.extend(
        before for _, before in subgraph.waits if not _tf.is_inside(before))
    values = {name: self.placeholder_for(tensor)
              for name, tensor in subgraph.external.items()}
    nodes = itertools.chain(subgraph.nodes, *(
        function.node_def for function in subgraph.functions))
    return functionalization.emit(
        subgraph.nodes, values,
        lambda name: self.graph.get_tensor_by_name(name).shape,
        subgraph.functions + traversal.functions_called(self.graph, nodes))

  def export(self, results, label, also=()):
    """Moves what `results` need to the user's graph.

    Args:
      results: list of tensors of the scratch graph.
      label: str, the last part of their name scope.
      also: list of tensors of the scratch graph that are asked for, too, where
        they are among what is moved.

    Returns:
      list of `tf.Tensor` of the user's graph: of `results`, then of `also`,
      with None for what is not moved.
    """
    originals = {placeholder.name: self.graph.get_tensor_by_name(name)
                 for name, placeholder in self._placeholders.items()}
    ops = traversal.ancestors(results, cut=originals)
    op_names = set(ops)
    # Handles are replaced at the import: `subgraph_of` would read values there.
    subgraph = cloning.subgraph_of(self._scratch, op_names, ops, {
        name: tensor for name, tensor in originals.items()
        if tensor.dtype != tf.resource})
    functions = _library(self._scratch, subgraph.nodes, self.graph)
    with _translated_errors(self.graph):
      new = cloning.import_subgraph(
          self._scratch, subgraph._replace(functions=functions),
          {name: originals.get(name, tensor)
           for name, tensor in subgraph.external.items()}, label)
    self._order(new, op_names, ops)
    return [originals[result.name] if result.name in originals
            else cloning.output_of(subgraph, new, result.name)
            for result in results] + [
                cloning.output_of(subgraph, new, tensor.name)
                if tensor.op.name in op_names else None for tensor in also]

  def export_in_one_op(self, results, label):
    """As `export`, but as one op that calls a function of all of it.

    The function of an `If` is run as it is: TensorFlow rewrites graphs, and the
    functions of other calls.

    Args:
      results, label: as in `export`.
    """
    placeholders = {placeholder.name: self.graph.get_tensor_by_name(name)
                    for name, placeholder in self._placeholders.items()
                    if placeholder.op.type in op_types.PLACEHOLDERS}
    with self._scratch.as_default():
      outputs = list(map(tf.identity, results))
    ops = traversal.ancestors(outputs)
    given = [op.outputs[0] for op in ops.values()
             if op.outputs and op.outputs[0].name in placeholders]
    definition = _tf.definition_of("gradfeed_{}_{}".format(
        label, uuid.uuid4().hex[:12]), given, outputs, list(ops.values()))
    cache.cache_of(self.graph).functions.add(definition.signature.name)
    with tf.name_scope(label):
      return _tf.call_as_it_is(
          definition, [placeholders[t.name] for t in given], outputs)

  def _order(self, new, op_names, ops):
    """Makes copies wait for the ops that what was copied waited for.

    Args:
      new: dict from the name of each op of the scratch graph to its copy.
      op_names: set of the names of those that were copied.
      ops: dict from name to op of the scratch graph.
    """
    befores = list({op.name: op for op in self._waited_for}.values())
    if befores:
      for name, op in new.items():
        if any(t.op.name not in op_names for t in ops[name].inputs):
          _tf.add_control_inputs(op, befores)


@contextlib.contextmanager
def _translated_errors(graph):
  """Raises an `UnsupportedGraphError` for whatever TensorFlow raises inside."""
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


def _library(graph, nodes, target):
  """The FunctionDefs of `graph` that `nodes` call and that `target` lacks."""
  return [definition for definition in traversal.functions_called(graph, nodes)
          if _tf.function_definition(
              target, definition.signature.name) is None]


#: Types of the ops of control flow v1, and of the state that they keep for one
#: run: copied without the rest of their loop they do not run as they should.
_CONTROL_FLOW_V1 = (op_types.CONTROL_FLOW_V1 | op_types.STACK_OPS |
                    op_types.PER_RUN_STATE)


def is_plain(ops):
  """Whether copies of ops, given other values, compute what the ops would.

  Those of control flow v1 do not, nor random ones, nor those with a gradient of
  their own (`tf.custom_gradient`), which may read tensors that are not copied.

  Args:
    ops: iterable of `tf.Operation`.
  """
  return not any(
      op.type in _CONTROL_FLOW_V1 or op_types.RANDOM.search(op.type) or
      _tf.has_own_gradient(op.node_def) for op in ops)


def _is_elementwise(select):
  """Whether an op of type Select takes one element for each of its condition.

  Or all by one; but not rows by a vector. It refuses what has unequal shapes.
  """
  condition, chosen, other = [tensor.shape for tensor in select.inputs]
  return (chosen.is_fully_defined() and other.is_fully_defined() and
          chosen.as_list() == other.as_list() and
          (condition.ndims == 0 or condition.is_fully_defined() and
           condition.as_list() == chosen.as_list()))


#: Types of ops whose vectorized form in TensorFlow mixes up the axes.
_DISTRUSTED = frozenset(["TensorListGather"])


def _vectorized_at_once(body, count):
  """Calls `_tf.vectorized`, and raises ValueError if results may be wrong."""
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
  """Stacks `body(i)` for all i below `count`, by vectorized ops.

  Args:
    body: function from an int32 scalar tensor to a list of tensors.
    count: int or int32 scalar tensor.
    chunk: int, how many i are computed at a time, or None for all.

  Returns:
    list of tensors; with `chunk` they have rows up to a multiple of it.
  """
  if chunk is None:
    return _vectorized_at_once(body, count)
  # The last chunk is as long as the others, so that all have one static shape.
  stacked = _tf.map_rows_in_loop(
      lambda j: _vectorized_at_once(lambda i: body(j * chunk + i), chunk),
      _dtypes(body), (count + chunk - 1) // chunk)
  return [tf.reshape(result, tf.concat([[-1], tf.shape(result)[2:]], 0))
          for result in stacked]


def _dtypes(body):
  """The dtypes of what `body` returns, by a call whose ops are never run."""
  return [result.dtype for result in body(tf.constant(0))]
