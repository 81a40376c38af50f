"""Functions of which all that is computed can be differentiated again.

See `rewriting.differentiable_copy.differentiable_gradients`.
"""

import collections

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.evaluation import functions
from gradfeed.graph import cache
from gradfeed.graph import nest
from gradfeed.rewriting import differentiable_copy

# pylint: disable=protected-access

#: What a `Function` computes between. Of each dense tensor of the inputs, then
#: of the held feeds: `targets`, the `tf.Tensor` that is fed, or None; `slots`.
#: `results`: the `tf.Tensor` of each dense tensor of the outputs; `held`: the
#: arrays that are held; `leaves`: those of the inputs; `structures`: the
#: structure of each argument; `outputs`: list of `fetchables.Fetchable`;
#: `session`: that of a call at this moment.
Program = collections.namedtuple(
    "Program", ["targets", "results", "slots", "held", "leaves", "structures",
                "outputs", "session"])


def program(f):
  """All that a `Function` computes, as a `Program`."""
  executable = f._executable
  return Program(
      *executable.ends(), executable.slots, f._held_arrays, f._inputs,
      f._form.structures, f._outputs, f._session_now())


def with_outputs(f, outputs):
  """A `Function` with other outputs, of the same inputs and held values."""
  fed = [_tf.as_key(slot.component.tensor) for slot in f._executable.slots]
  held = dict(zip(fed[f._input_count():], f._held_arrays))
  return functions.Function(
      f._form.structures, outputs, f._session, held, f._points, f._timeout,
      None, "ignore")


def derivative_of(graph, tensor):
  """The `cache.Derivative` that a tensor of a graph belongs to, or None."""
  name = getattr(tensor, "name", None)
  if isinstance(tensor, tf.IndexedSlices):
    name = tensor.values.name
  return cache.cache_of(graph).derivatives.get(name)


def differentiable(f, leaves):
  """Leaves of outputs, with gradients among their ancestors built again.

  Args:
    f: `Function`.
    leaves: list of what may be an output.

  Returns:
    list of the same length.
  """
  clones = differentiable_copy.differentiable_gradients(
      f.graph, [leaf for leaf in leaves if isinstance(leaf, tf.Tensor)])
  return [clones.get(leaf.name, leaf) if isinstance(leaf, tf.Tensor) else leaf
          for leaf in leaves]


def values_of(f):
  """What the derivatives among the outputs of a function are derivatives of.

  Args:
    f: `Function`.

  Returns:
    (list with the index of each output that is a derivative, list of the
    `tf.Tensor` that these are derivatives of).
  """
  indices, ys = [], []
  for i, leaf in enumerate(nest.flatten(f.structure)):
    derivative = derivative_of(f.graph, leaf)
    if derivative is None and hasattr(leaf, "name"):
      derivative = derivative_of(f.graph, f.outputs[i])
    if derivative is not None:
      indices.append(i)
      for name in derivative.ys:
        if name not in [y.name for y in ys]:
          ys.append(f.graph.get_tensor_by_name(name))
  return indices, ys
