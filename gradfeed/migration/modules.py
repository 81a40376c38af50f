"""`to_module`: a function of a legacy graph as a module of TF 2."""

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.evaluation import functions
from gradfeed.graph import cache
from gradfeed.graph import nest
from gradfeed.graph import tensors
from gradfeed.migration import arguments
from gradfeed.migration import computations
from gradfeed.migration import differentiable_functions
from gradfeed.migration import refusals
from gradfeed.migration import tables
from gradfeed.migration import weights


def to_module(f, variables=None):
  """Turns a function of a legacy graph into code of TF 2.

  The module computes what `f` does, with the weights that the session of `f`
  has now, with the same cuts and held values. It can be called eagerly, in a
  `tf.function` and in a layer of Keras, and a `tf.GradientTape` differentiates
  it to any order, by its inputs and by its weights.

  Its weights are variables of TF 2, which the session does not share: see
  `update_from` and `update`. Lookup tables keep the content they have now.
  Where TensorFlow's gradient would leave out what an input or a trained weight
  does (see `IncompleteGradientError`), there is a `GradfeedWarning`.

  Args:
    f: `Function`.
    variables: dict from names of variables of the graph ("dense/kernel"; each
      part of a partitioned one by its own name) to variables of TF 2 or Keras 3
      to use in their places; the others are made. They keep their own values:
      call `update_from(session)` for those of the session. Keras 3 trains
      variables of its own alone, so that a layer gives those of `add_weight`.

  Returns:
    `LegacyModule`, a `tf.Module`.

  Raises:
    UnsupportedGraphError: this is TensorFlow 1; or an op cannot be part of TF 2
      code: `tf.py_func`, a queue, an iterator; names it.
    MissingFeedError: `f` needs a value that is neither an input nor held.
    UninitializedError: a variable or a table has no value in the session.
    ArgumentError: `f` is no `Function`; or `variables` do not fit.
    FinalizedGraphError: the graph is closed, and ops are needed.
    SessionError: there is no session, or it is closed.

  Example:
    >>> import gradfeed as gf, tensorflow.compat.v1 as tf
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...   x = tf.placeholder(tf.float64, [], name="x")
    ...   w = tf.get_variable("w", initializer=tf.constant(2.0, tf.float64))
    ...   session.run(w.initializer)
    ...   f = gf.function(x, w * x ** 3)
    ...   if int(tf.__version__[0]) > 1:
    ...     module = gf.to_module(f)
    ...     assert module(2.0).numpy() == 16.0
    ...     assert module.gradient(2.0).numpy() == 24.0
    ...     assert list(module.variables_by_name) == ["w"]
  """
  refusals.check_version()
  if not isinstance(f, functions.Function):
    raise errors.ArgumentError(
        "f is a {}, not a gradfeed.Function.".format(type(f).__name__),
        "A module is made of inputs, outputs, held values and the weights of a "
        "session.", "Pass what gradfeed.function(inputs, outputs) returns.")
  refusals.check_needs(f.needs)
  return LegacyModule(f, variables)


class LegacyModule(tf.Module):
  """What `to_module` returns: a `tf.Module`.

  A call takes one value for each input of the function, an array, eager tensor
  or variable, or a tensor of the `tf.function` or Keras layer around; it
  returns the outputs in their structure, as tensors. With values it runs at
  once, also inside of a graph block and where eager execution is off.

  `value` and `gradient` are y and dy/dx, whichever of them are the outputs:

  - no output is a derivative that gradfeed built: the value is all outputs, the
    gradient is d sum(value) / d input, one for each input that is floating;
  - some are, as in gf.function(x, gf.value_and_gradient(y, x)): they are the
    gradient, by whatever they were built for, and the others are the value;
  - all are, as in gf.function(x, gf.gradient(y, x)): they are the gradient, and
    the value is the y that they are derivatives of.

  Attributes:
    variables_by_name: dict from the name of each variable of the graph that is
      read to the variable of TF 2 (or the one that was given).
    variables: tuple of all of them.
    trainable_variables: tuple of those that the legacy graph trained: those in
      its collection TRAINABLE_VARIABLES; of given ones those that are trainable
      themselves.
  """

  def __init__(self, f, variables):
    super().__init__(name="legacy")
    self._legacy = _Legacy(f)
    session = weights.raw(self._legacy.session(), f.graph)
    full = self._legacy.computation(None)
    given = weights.Given(variables, full.variables)
    trainable = weights.trainable_names(f.graph)
    missing = [v for v in full.variables if v.op.name not in given.by_name]
    values = weights.values(session, missing)
    self.variables_by_name = {
        v.op.name: given.by_name[v.op.name] if v.op.name in given.by_name else
        _tf.new_variable(values[v.op.name], v.op.name in trainable, v.op.name)
        for v in full.variables}
    self._tables = tables.copies(session, full.tables)
    self._held = self._legacy.held_tensors()
    full.check_complete()
    self._traced = {}
    weights.prepare_assignments(full.variables)

  @property
  def variables(self):
    """tuple of the variables that the outputs are computed from."""
    return tuple(self.variables_by_name.values())

  @property
  def trainable_variables(self):
    """tuple of those that the legacy graph trained."""
    return tuple(v for v in self.variables if weights.is_trainable(v))

  def __call__(self, *inputs):
    """The outputs of the function, in their structure.

    Args:
      *inputs: one for each input of the function, with its dtype and shape.

    Returns:
      The structure of the outputs, with a `tf.Tensor` for each.

    Raises:
      FeedError: lists the values that do not fit.
      GraphMismatchError: an input is a tensor of a legacy graph.
    """
    return self._call("outputs", inputs)

  def value(self, *inputs):
    """y, whether it is an output of the function or not.

    Args:
      *inputs: as in a call.

    Returns:
      `tf.Tensor`, or a list of them where there are several.
    """
    return self._call("value", inputs)

  def gradient(self, *inputs):
    """dy/dx, whether it is an output of the function or not.

    Args:
      *inputs: as in a call.

    Returns:
      `tf.Tensor`, or a list of them where there are several.

    Raises:
      DisconnectedError: the value does not depend on a floating input.
    """
    return self._call("gradient", inputs)

  def value_and_gradient(self, *inputs):
    """`value` and `gradient`, from one forward pass.

    Args:
      *inputs: as in a call.

    Returns:
      tuple of both.
    """
    return self._call("value_and_gradient", inputs)

  def update_from(self, session):
    """Takes the values of the variables in a session of the legacy graph.

    Args:
      session: `tf.Session` of the graph, or a wrapper of one.
    """
    legacy = self._legacy.computation(None).variables
    values = weights.values(weights.raw(session, self._legacy.graph), legacy)
    with _tf.eagerly():
      for name, variable in self.variables_by_name.items():
        weights.tf_variable(variable).assign(values[name])

  def update(self, session):
    """Writes the values of the variables into a session of the legacy graph.

    Args:
      session: `tf.Session` of the graph, or a wrapper of one.

    Raises:
      FinalizedGraphError: the graph is closed, and has no ops for it yet. A
        module that was made before has added them.
    """
    legacy = self._legacy.computation(None).variables
    weights.assign(weights.raw(session, self._legacy.graph), legacy,
                   weights.to_arrays(self.variables_by_name[v.op.name]
                                     for v in legacy))

  def __reduce__(self):
    """Refuses to be pickled."""
    raise errors.ArgumentError(
        "A gf.LegacyModule cannot be pickled, nor copied deeply.",
        "What it computes is in a graph in the memory of this process.",
        "Save it with tf.saved_model.save or tf.train.Checkpoint; for a second "
        "one with weights of its own call gf.to_module(f) again.")

  def _call(self, kind, inputs):
    """Calls one of the four concrete functions, in the way that fits."""
    values = self._legacy.arguments.tensors(inputs)
    weights.check_keras(self.variables_by_name)
    function = self._function(kind)
    if tf.executing_eagerly() or not arguments.are_eager(values):
      return function(*values)
    with _tf.eagerly():
      return function(*values)

  def _function(self, kind):
    """The concrete function of one of the four kinds; traced once."""
    if kind not in self._traced:
      with cache.cache_of(self._legacy.graph).lock:
        if kind not in self._traced:
          self._traced[kind] = _tf.traced(
              getattr(self, "_build_" + kind), self._legacy.arguments.signature)
    return self._traced[kind]

  def _build(self, indices, inputs):
    """The leaves of outputs of the legacy graph."""
    return self._legacy.build(
        indices, list(inputs) + self._held, {
            name: weights.tf_variable(variable)
            for name, variable in self.variables_by_name.items()},
        {name: table.resource_handle for name, table in self._tables.items()})

  def _build_outputs(self, *inputs):
    leaves = self._build(self._legacy.output_indices, inputs)
    return (leaves[0] if not nest.is_container(self._legacy.structure)
            else nest.pack(self._legacy.structure, leaves))

  def _build_value(self, *inputs):
    return _one_or_list(self._build(self._legacy.value_indices, inputs))

  def _build_gradient(self, *inputs):
    if self._legacy.gradient_indices:
      return _one_or_list(self._build(self._legacy.gradient_indices, inputs))
    return self._by_tape(inputs)[1]

  def _build_value_and_gradient(self, *inputs):
    if not self._legacy.gradient_indices:
      return self._by_tape(inputs)
    first, second = self._legacy.value_indices, self._legacy.gradient_indices
    leaves = self._build(first + second, inputs)
    return (_one_or_list(leaves[:len(first)]),
            _one_or_list(leaves[len(first):]))

  def _by_tape(self, inputs):
    """(value, its gradient by the inputs that are numbers)."""
    numbers = [x for x in inputs if _tf.is_number(x.dtype)]
    value_function = self._function("value")
    with tf.GradientTape() as tape:
      tape.watch(numbers)
      value = value_function(*inputs)
    ys = [y for y in nest.flatten(value) if _tf.is_number(y.dtype)]
    gradients = tape.gradient(ys, numbers) if ys and numbers else []
    self._legacy.check_connected(ys, numbers, gradients)
    return value, _one_or_list(gradients)


class _Legacy:
  """What a module keeps of the legacy graph; tf.Module does not look into it.

  Attributes:
    graph: `tf.Graph`.
    structure: the outputs of the function as they were given.
    arguments: `arguments.Arguments`.
    output_indices, value_indices, gradient_indices: lists of the indices of
      leaves: the outputs, those that are the value, those that are a gradient.
  """

  def __init__(self, f):
    self.graph = f.graph
    self.structure = f.structure
    leaves = nest.flatten(f.structure)
    derivatives, ys = differentiable_functions.values_of(f)
    count = len(leaves)
    self.output_indices = list(range(count))
    self.gradient_indices = derivatives
    self.value_indices = [i for i in range(count) if i not in derivatives]
    if not self.value_indices:
      leaves = leaves + ys
      self.value_indices = list(range(count, len(leaves)))
    new = differentiable_functions.differentiable(f, leaves)
    if len(new) > count or any(a is not b for a, b in zip(new, leaves)):
      f = differentiable_functions.with_outputs(f, new)
    self._program = differentiable_functions.program(f)
    self._leaves = new
    self._counts = [len(output.tensors()) for output in self._program.outputs]
    self._computations = {}
    self.arguments = arguments.Arguments(self._program)

  def computation(self, indices):
    """The `computations.Computation` of some leaves; None for all."""
    key = None if indices is None else tuple(indices)
    if key not in self._computations:
      self._computations[key] = computations.Computation(
          self.graph, self._program.targets, self._results(indices))
    return self._computations[key]

  def session(self):
    """The session whose weights the function has at this moment."""
    return self._program.session

  def _results(self, indices):
    """The dense tensors of the leaves with certain indices."""
    starts = np.cumsum([0] + self._counts)
    if indices is None:
      indices = range(len(self._counts))
    return [result for i in indices
            for result in self._program.results[starts[i]:starts[i + 1]]]

  def held_tensors(self):
    """list of eager `tf.Tensor`, the values that are held."""
    slots = self._program.slots[len(self._program.slots)
                                - len(self._program.held):]
    with tf.init_scope(), _tf.eagerly():
      return [tf.constant(value, slot.component.dtype)
              for slot, value in zip(slots, self._program.held)]

  def build(self, indices, values, variables, handles):
    """list with what each leaf is in the function that is being traced."""
    results = iter(self.computation(indices).build(values, variables, handles))
    return [_assembled(self._leaves[i],
                       [next(results) for _ in range(self._counts[i])])
            for i in indices]

  def check_connected(self, ys, numbers, gradients):
    """Refuses a gradient by an input that the value does not depend on."""
    names = [slot.component for slot in self._program.slots
             if _tf.is_number(slot.component.dtype)]
    lost = [str(name) for name, gradient in zip(names, gradients)
            if gradient is None]
    if not ys or not numbers or lost:
      raise errors.DisconnectedError(
          "The module has no gradient by {}.".format(
              ", ".join(lost) or "its inputs"),
          "The value does not depend on it, or no gradient passes." if (
              ys and numbers) else "Input or value is not floating point.",
          "Take a tf.GradientTape over the module by what it depends on; "
          "gradfeed.explain(y, x) tells what cuts the path.")


def _one_or_list(leaves):
  return leaves[0] if len(leaves) == 1 else list(leaves)


def _assembled(leaf, parts):
  """A leaf of outputs from the tensors that it is put together from."""
  if isinstance(leaf, tf.IndexedSlices):
    return tf.IndexedSlices(*parts)
  if isinstance(leaf, tf.SparseTensor):
    return tf.SparseTensor(*parts)
  if _tf.is_partitioned(leaf) and len(parts) > 1:
    return tf.concat(parts, tensors.resolve(leaf).axis)
  return parts[0]
