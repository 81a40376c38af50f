"""Prepares a GraphDef out of a file, so that it can be imported here."""

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.models import outside_ops

#: Attributes of newer ops that change nothing of what an op computes on one
#: machine, whatever their value: names, hints, and what errors are raised for.
_HARMLESS = frozenset([
    "allow_missing_files", "allowed_devices", "debug_name",
    "force_synchronous", "grad_a", "grad_b", "grad_x", "grad_y", "log_warning",
    "metadata", "use_inter_op_parallelism", "validate_shape"])

#: Attributes of newer ops that change nothing where they have this value, which
#: is how older versions compute, as the text of an AttrValue.
_AS_BEFORE = {
    "Tcomplex": "type: DT_COMPLEX64", "Tk": "type: DT_INT32",
    "Treal": "type: DT_FLOAT", "Tsegmentids": "type: DT_INT32",
    "Tshape": "type: DT_INT32", "axis": "i: -1",
    "bad_indices_policy": 's: ""', "blank_index": "i: -1",
    "buffer_size_min": "i: 0", "dtype": "type: DT_FLOAT",
    "ensure_minimum_range": "f: 0.01", "explicit_paddings": "list { }",
    "exponential_avg_factor": "f: 1.0", "index_type": "type: DT_INT32",
    "is_files": "b: false", "multiply_linear_by_lr": "b: false",
    "narrow_range": "b: false", "offset": "i: 0",
    "perturb_singular": "b: false", "replicate_on_split": "b: false",
    "resize_if_index_out_of_bounds": "b: false",
    "shape_type": "type: DT_INT32", "sparse_gradient": "b: false",
    "stop_on_empty_dataset": "b: false", "use_default_device": "b: true",
}

#: Newer ops without a result, of which nothing is left to do here.
_NOTHING_TO_DO = frozenset(["DisableCopyOnRead"])


def prepare(path, graph_def, written_ops=None):
  """Makes a GraphDef one that this TensorFlow can import, to run here.

  Devices are forgotten. Attributes that newer versions have added to an op are
  taken away where the op computes the same without.

  Args:
    path: str, for errors.
    graph_def: GraphDef, changed.
    written_ops: OpList of the TensorFlow that wrote the file, or None.

  Raises:
    ModelFileError: a function in it calls itself, or a constant has a shape
      that is none.
  """
  _refuse_recursion(path, graph_def)
  known = _KnownAttributes(written_ops)
  is_newer = graph_def.versions.producer > tf.GRAPH_DEF_VERSION
  for nodes in [graph_def.node] + [
      function.node_def for function in graph_def.library.function]:
    for node in nodes:
      node.device = ""
      if is_newer:  # An importer holds them against what it infers itself.
        node.attr.pop("_output_shapes", None)
      if node.op == "Const":
        _check_constant(path, node)
      known.strip(node)


class _KnownAttributes:
  """Knows which attributes ops have in this TensorFlow, and takes others away.

  Args:
    written_ops: OpList of the TensorFlow that wrote the ops, or None.
  """

  def __init__(self, written_ops):
    self._defaults = {
        op.name: {attribute.name: attribute.default_value
                  for attribute in op.attr
                  if attribute.HasField("default_value")}
        for op in (written_ops.op if written_ops else ())}
    self._names = {}

  def strip(self, node):
    """Takes away what a NodeDef has and its op does not know, if harmless."""
    names = self._of(node.op)
    if names is None:
      if node.op in _NOTHING_TO_DO:
        node.op = "NoOp"
        del node.input[:]
        node.attr.clear()
      return
    unknown = [name for name in node.attr
               if name not in names and not name.startswith("_")]
    for name in unknown:
      value = node.attr[name]
      if name in _HARMLESS or value == _as_before(name) or (
          value == self._defaults.get(node.op, {}).get(name)):
        del node.attr[name]

  def _of(self, op_type):
    """The names of the attributes of an op; None where it is not known."""
    if op_type not in self._names:
      definition = _tf.op_definition(tf.get_default_graph(), op_type)
      self._names[op_type] = None if definition is None else {
          attribute.name for attribute in definition.attr}
    return self._names[op_type]


def _as_before(name):
  """The AttrValue of `_AS_BEFORE`, or None."""
  from google.protobuf import text_format  # pylint: disable=g-import-not-at-top
  text = _AS_BEFORE.get(name)
  return text and text_format.Parse(text, tf.AttrValue())


def _check_constant(path, node):
  """Refuses a constant whose shape is none."""
  dims = node.attr["value"].tensor.tensor_shape.dim
  if any(dim.size < 0 for dim in dims):
    raise errors.ModelFileError(
        "'{}' cannot be read.".format(path),
        "The constant '{}' has the shape {}.".format(
            node.name, [dim.size for dim in dims]),
        "It is damaged: write it again.")


def _refuse_recursion(path, graph_def):
  """Refuses functions that call themselves, which end the process.

  Args:
    path: str, for the error.
    graph_def: GraphDef.

  Raises:
    ModelFileError: there is such a function; names it.
  """
  calls = {}
  for function in graph_def.library.function:
    calls[function.signature.name] = sorted({
        name for node in function.node_def
        for name in [node.op] + list(outside_ops.functions_of(node))})
  done = set()
  for start in calls:
    stack, around = [(start, iter(calls[start]))], {start}
    while stack and start not in done:
      name, remaining = stack[-1]
      called = next(remaining, None)
      if called is None:
        stack.pop()
        around.discard(name)
        done.add(name)
      elif called in around:
        raise errors.ModelFileError(
            "'{}' cannot be read.".format(path),
            "Its function '{}' calls itself, by way of '{}'.".format(
                called, name),
            "It is damaged: write it again.")
      elif called in calls and called not in done:
        stack.append((called, iter(calls[called])))
        around.add(called)
