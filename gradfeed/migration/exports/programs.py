"""What a SavedModel of a function computes: tensors, names and signatures."""

import collections
import re

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.derivatives import gradients
from gradfeed import errors
from gradfeed.evaluation import functions
from gradfeed.evaluation.inputs import feeds
from gradfeed.graph import nest
from gradfeed.graph import tensors
from gradfeed.graph import traversal
from gradfeed.migration import differentiable_functions

# pylint: disable=protected-access

#: The signatures that `signatures=` can name, in their order.
KINDS = ("value", "gradient", "value_and_gradient")
#: The signature of the outputs of the function, which is always there.
SERVING = "serving_default"

#: A tensor that takes a value: `name` in signatures; `component`, the
#: `tensors.Dense` that the caller named; `target`, the `tf.Tensor` that is fed,
#: or None where nothing reads it.
Input = collections.namedtuple("Input", ["name", "component", "target"])

#: What a signature gives: `name` in signatures; `indices`, the places among the
#: results of its parts, more than one for those of a partitioned variable,
#: which are joined along `axis`.
Output = collections.namedtuple("Output", ["name", "indices", "axis"])


class Program:
  """A function as dense tensors of its graph, with names for a SavedModel.

  Attributes:
    function: the `Function`.
    graph: its `tf.Graph`.
    session: `tf.Session` of a call at this moment.
    inputs: list of `Input`.
    signatures: dict from the name of each signature to a list of `Output`.
    results: list of `tf.Tensor`, what the outputs are made of.
    held: dict from the name of each tensor that has a held value to (tensor,
      array).
  """

  def __init__(self, f, kinds):
    """Finds out what is computed; builds the gradient if f does not have it.

    Args:
      f: `Function`.
      kinds: list of some of `KINDS`, or None for all that there are.

    Raises:
      DisconnectedError, MissingGradientError, IncompleteGradientError: the
        gradient is wanted, and not to be had.
    """
    self.function = f
    self.graph = f.graph
    leaves = nest.flatten(f.structure)
    derivatives, ys = differentiable_functions.values_of(f)
    values = [i for i in range(len(leaves)) if i not in derivatives]
    paths = _paths(f.structure)
    if not values:
      f = differentiable_functions.with_outputs(f, leaves + ys)
      values = list(range(len(leaves), len(leaves) + len(ys)))
      leaves = leaves + ys
      paths = paths + [None] * len(ys)
    program = differentiable_functions.program(f)
    self.session = program.session
    self.inputs = [
        Input(name, slot.component, target) for name, slot, target in zip(
            _input_names(self.function), program.slots, program.targets)]
    self.held = {
        target.name: (target, array) for target, array in zip(
            program.targets[len(self.inputs):], program.held)
        if target is not None}
    self.results = list(program.results)
    outputs = _outputs(
        self.graph, leaves, paths, program.outputs, set(derivatives))
    gradient = [output for i in derivatives for output in outputs[i]]
    value = [output for i in values for output in outputs[i]]
    if not gradient and (
        kinds is None or any("gradient" in kind for kind in kinds)):
      gradient = self._gradient(value, kinds is not None)
    by_kind = {"value": value, "gradient": gradient,
               "value_and_gradient": value + gradient}
    served = [output for i in range(len(nest.flatten(f.structure)))
              for output in outputs[i]]
    if f is not self.function:
      served = gradient
    self.signatures = collections.OrderedDict([(SERVING, served)])
    for kind in KINDS:
      if (kinds is None or kind in kinds) and by_kind[kind] and (
          gradient or kind == "value"):
        self.signatures[kind] = by_kind[kind]
    self._flat = None

  def _gradient(self, value, is_wanted):
    """Builds d sum(value) / d input; adds the tensors to `results`.

    Args:
      value: list of `Output`.
      is_wanted: bool; whether that there is none is refused.

    Returns:
      list of `Output`, one for each floating input that is read.
    """
    ys = [self.results[i] for output in value for i in output.indices]
    ys = [y for y in ys if _tf.is_number(y.dtype)]
    read = traversal.ancestors(ys) if ys else {}
    inputs = [i for i in self.inputs if i.target is not None and
              _tf.is_number(i.target.dtype) and i.target.op.name in read]
    if not inputs:
      if is_wanted:
        raise errors.DisconnectedError(
            "The function has no gradient by {}.".format(
                tensors.describe_all(i.component for i in self.inputs)),
            "No floating output depends on a floating input.",
            "Export its value alone: signatures=['value'].")
      return []
    try:
      built = gradients.gradient(ys, [i.target for i in inputs])
    except (errors.DisconnectedError, errors.MissingGradientError,
            errors.IncompleteGradientError) as error:
      error.fix += (" To export the value alone: signatures=['value'].")
      raise
    start = len(self.results)
    self.results += built
    names = ["gradient"] if len(inputs) == 1 else _distinct(
        ["gradient_" + i.name for i in inputs])
    return [Output(name, [start + i], None) for i, name in enumerate(names)]

  def results_at(self, arrays):
    """The values of `results`.

    Args:
      arrays: list of arrays, one for each of `inputs`.
    """
    if self._flat is None:
      f = self.function
      self._flat = functions.Function(
          [i.target for i in self.inputs if i.target is not None],
          list(self.results), self.session,
          {name: array for name, (_, array) in self.held.items()}, (),
          f._timeout, None, "ignore")
    return self._flat(*[array for array, i in zip(arrays, self.inputs)
                        if i.target is not None])

  def arrays(self, values):
    """The arrays to feed at the inputs, for the values of one call.

    Args:
      values: tuple, as `Function` is called with.

    Returns:
      list of arrays, one for each of `inputs`.

    Raises:
      FeedError: lists the values that do not fit.
    """
    f = self.function
    arrays, problems = [], []
    slots = iter(f._executable.slots)
    for leaf, value in zip(f._inputs, f._form.bind(values)):
      try:
        arrays += [slot.fit(part) for slot, part in zip(
            [next(slots) for _ in leaf.components()], feeds.split(leaf, value))]
      except feeds.Unfit as unfit:
        problems.append(feeds.Problem(leaf, str(unfit)))
    if problems:
      raise feeds.feed_error(problems)
    return arrays

  def outputs_at(self, arrays):
    """What the function itself gives: its outputs, the first of `results`.

    Args:
      arrays: list of arrays, one for each of `inputs`.

    Returns:
      list of arrays; empty where inputs or outputs are put together from
      several tensors.
    """
    f = self.function
    if f.ends() is None:
      return []
    return nest.flatten_as(f.structure, f(*f.arguments(arrays)))


def _paths(structure):
  """The name of each leaf of outputs that keys give it, or None."""
  names = nest.names_of(structure)
  if not nest.is_container(structure):
    return [None]
  return [None if all(part.isdigit() for part in name.split("/")) else name
          for name in names]


def _input_names(f):
  """What the dense tensors of the inputs of a function are called."""
  names = []
  for name, leaf in zip(f._form.identifiers(), f._inputs):
    count = len(leaf.components())
    if isinstance(leaf, tensors.Sparse):
      ends = ["_indices", "_values", "_shape"][:count]
      if name == "values":  # Those of a sparse placeholder, "ids/values".
        name = leaf.name.split(":")[0].rpartition("/")[0].split("/")[-1] or name
    else:
      ends = [""] if count == 1 else [
          "_{}".format(i) for i in range(count)]
    names += [str(name) + end for end in ends]
  full = [component.name.split(":")[0] for leaf in f._inputs
          for component in leaf.components()]
  return _distinct(names, full)


def _outputs(graph, leaves, paths, fetchables, derivatives):
  """list with the list of `Output` of each leaf of outputs."""
  named = _names_of_leaves(leaves, paths, derivatives)
  outputs, start = [], 0
  for name, leaf, fetchable in zip(named, leaves, fetchables):
    count = len(fetchable.tensors())
    indices = list(range(start, start + count))
    start += count
    if isinstance(leaf, tf.SparseTensor):
      ends = ["_indices", "_values", "_shape"]
    elif isinstance(leaf, tf.IndexedSlices):
      ends = ["_values", "_indices", "_shape"]
    else:
      axis = None
      if count > 1:
        axis = tensors.resolve(leaf, graph).axis
      outputs.append([Output(name, indices, axis)])
      continue
    outputs.append([Output(name + end, [i], None)
                    for end, i in zip(ends, indices)])
  return outputs


def _names_of_leaves(leaves, paths, derivatives):
  """What each leaf of outputs is called."""
  values = [i for i in range(len(leaves)) if i not in derivatives]
  slopes = sorted(derivatives)
  names = [None] * len(leaves)
  for indices, lone in ((values, "value"), (slopes, "gradient")):
    for place, i in enumerate(indices):
      if paths[i] is not None:
        names[i] = paths[i]
      elif len(indices) == 1:
        names[i] = lone
      elif lone == "gradient":
        names[i] = "gradient_{}".format(place)
      else:
        names[i] = _last_part(leaves[i]) or "value_{}".format(place)
  return _distinct(names)


def _last_part(leaf):
  """The last part of the name of a tensor or variable, or ""."""
  name = leaf if isinstance(leaf, str) else getattr(leaf, "name", None)
  return str(name or "").split(":")[0].split("/")[-1]


def _distinct(names, others=None):
  """Names that can be arguments in Python, none of them twice.

  Args:
    names: list of str.
    others: list of str, what to take where a name is there twice; or None.
  """
  names = list(map(_identifier, names))
  if others is not None:
    names = [_identifier(other) if names.count(name) > 1 else name
             for name, other in zip(names, others)]
  made = []
  for name in names:
    number, new = 1, name
    while new in made:
      new = "{}_{}".format(name, number)
      number += 1
    made.append(new)
  return made


def _identifier(name):
  text = re.sub(r"\W", "_", str(name), flags=re.ASCII).strip("_") or "value"
  return "x" + text if text[0].isdigit() else text
