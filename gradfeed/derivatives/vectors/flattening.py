"""`flatten` and `unflatten`: structures of tensors as one vector, and back."""

import hashlib

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.graph import assertions
from gradfeed.graph import cache
from gradfeed.graph import nest
from gradfeed.graph import tensors


def flatten(structure):
  """Builds one vector of all elements of a structure; the same on each call.

  Args:
    structure: tensors, ref, resource or partitioned variables, names,
      `tf.SparseTensor`s (their values), `tf.IndexedSlices` (in their dense
      form, rows of equal indices summed), in nested lists, tuples and dicts;
      all of one dtype. Arrays among them become constants. Or arrays and
      numbers alone.

  Returns:
    `tf.Tensor` of shape [n] and the dtype of the leaves, which follow each
    other in the order of `tf.nest.flatten` (dicts by sorted key), each in
    row-major order. An array, if there are only arrays and numbers.

  Raises:
    ArgumentError: the structure is empty, or a leaf has another dtype than the
      first; says which.
    GraphMismatchError, EagerModeError, TensorNotFoundError,
    FinalizedGraphError.

  Example:
    >>> import gradfeed as gf, numpy as np, tensorflow.compat.v1 as tf
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...   x = tf.placeholder(tf.float64, [2])
    ...   vector = gf.flatten({"b": x, "a": 2.0 * x[:1]})
    ...   print(session.run(vector, {x: [3.0, 5.0]}))
    [6. 3. 5.]
    >>> print(gf.flatten([np.ones([2, 1]), np.zeros(1)]))
    [1. 1. 0.]
  """
  leaves = [_tf.dereference(leaf) for leaf in nest.flatten(structure)]
  if not leaves:
    raise errors.ArgumentError(
        "structure is empty.", "A vector of nothing has no dtype.",
        "Pass at least one tensor or array.")
  if not any(map(_is_symbolic, leaves)):
    arrays = [_array(leaf) for leaf in leaves]
    check_dtypes([(_describe_array(array), array.dtype) for array in arrays])
    return np.concatenate([array.ravel() for array in arrays])
  graph = tensors.graph_of([leaf for leaf in leaves if _is_symbolic(leaf)])
  parts = [_Part(leaf, graph) for leaf in leaves]
  check_dtypes([(part.description, part.dtype) for part in parts])
  return concatenated(graph, parts)


def unflatten(vector, like):
  """Builds a structure of tensors from a vector; the reverse of `flatten`.

  Args:
    vector: tensor, variable or name of shape [n], or array. Its dtype stays.
    like: tensors, variables, names or arrays in nested lists, tuples and dicts,
      n elements in all. Their shapes are taken, those that are known only in a
      run as well; of a `tf.SparseTensor` that of its values.

  Returns:
    The structure of `like`, with a `tf.Tensor` of the shape of each leaf. With
    arrays instead, if `vector` is an array and all shapes are known.

  Raises:
    ArgumentError: `like` is empty; `vector` is no vector, or has not as many
      elements as `like`; an array is given, and a shape is not known.
    FeedError: the same, found in a run.
    GraphMismatchError, EagerModeError, TensorNotFoundError,
    FinalizedGraphError.

  Example:
    >>> import gradfeed as gf, numpy as np, tensorflow.compat.v1 as tf
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...   w, b = tf.zeros([2, 2]), tf.zeros([1])
    ...   parts = gf.unflatten(tf.range(5.0), {"w": w, "b": b})
    ...   print(session.run(parts["w"]))
    ...   print(gf.unflatten(np.arange(5.0), [w, b])[1])
    [[1. 2.]
     [3. 4.]]
    [4.]
  """
  leaves = [_tf.dereference(leaf) for leaf in nest.flatten(like)]
  if not leaves:
    raise errors.ArgumentError(
        "like is empty.", "It has the shapes that the vector is cut into.",
        "Pass at least one tensor or array.")
  vector = _tf.dereference(vector)
  symbolic = [leaf for leaf in leaves + [vector] if _is_symbolic(leaf)]
  graph = tensors.graph_of(symbolic) if symbolic else None
  forms = [Form(tensors.resolve(leaf, graph, "like"))
           if _is_symbolic(leaf) else Form(_array(leaf)) for leaf in leaves]
  if not _is_symbolic(vector):
    return nest.pack(like, split_array(
        _array(vector), forms, errors.ArgumentError, "vector"))
  component = tensors.resolve(vector, graph, "vector")
  check_length(component, forms, errors.ArgumentError, "vector")
  return nest.pack(like, split_tensor(component, forms))


class Form:
  """The shape of one leaf of a structure that a vector is cut into.

  Attributes:
    shape: `tf.TensorShape`.
    name: str, names the leaf in the keys of the cache.
    description: str, for messages.
  """

  def __init__(self, leaf):
    self._leaf = leaf
    if isinstance(leaf, np.ndarray):
      self.shape = tf.TensorShape(leaf.shape)
      self.name, self.description = leaf.shape, _describe_array(leaf)
    else:
      self.shape = (leaf.values if isinstance(leaf, tensors.Sparse)
                    else leaf).shape
      self.name, self.description = leaf.name, tensors.describe(leaf)

  def size(self):
    """The number of elements: int; None where it is not known."""
    return self.shape.num_elements()

  def built_shape(self):
    """The shape: a list of ints, or an int32 tensor that is built."""
    if self.shape.is_fully_defined():
      return self.shape.as_list()
    return tf.shape(tensors.read_of(self._leaf.differentiable()[0]))

  def built_size(self):
    """The number of elements: int, or an int32 tensor that is built."""
    size = self.size()
    return tf.reduce_prod(self.built_shape()) if size is None else size


def known_size(forms):
  """The number of elements of all `forms`; None where it is not known."""
  sizes = [form.size() for form in forms]
  return None if None in sizes else sum(sizes)


def check_length(vector, forms, error_class, role):
  """Refuses what is no vector of the size of `forms`, as far as is known.

  Args:
    vector: array, or `tensors.Dense`.
    forms: list of `Form`.
    error_class: class of the error.
    role: str, what the vector is called in the error.
  """
  count = known_size(forms)
  shape = tf.TensorShape(vector.shape)
  if not shape.is_compatible_with([count]):
    raise error_class(
        "{} has shape {}, not [{}].".format(
            role, tensors.format_shape(shape), "?" if count is None else count),
        "It holds the elements of {}, one after the other.".format(
            ", ".join(form.description for form in forms[:8]) +
            (", ..." if len(forms) > 8 else "")),
        "Pass one vector, in the order in which gf.flatten puts them.")


def split_array(vector, forms, error_class, role):
  """Cuts an array.

  Args:
    vector, forms, error_class, role: as in `check_length`.

  Returns:
    list with an array for each of `forms`; views of `vector`.
  """
  check_length(vector, forms, error_class, role)
  for form in forms:
    if not form.shape.is_fully_defined():
      raise error_class(
          "{} is an array, and the shape of {} is not known before a "
          "run.".format(role, form.description),
          "An array is cut at once.",
          "Pass a tensor, such as a placeholder that the array is fed to.")
  edges = np.cumsum([form.size() for form in forms])[:-1]
  return [part.reshape(form.shape.as_list())
          for part, form in zip(np.split(vector, edges), forms)]


def split_tensor(vector, forms):
  """Cuts a vector of the graph, once.

  Args:
    vector: `tensors.Dense`.
    forms: list of `Form`.

  Returns:
    list with a `tf.Tensor` for each of `forms`.
  """
  def build():
    cache.check_not_finalized(
        vector.graph, "Cutting {}".format(tensors.describe(vector)))
    with _tf.building(vector.graph, vector.op):
      shapes = [form.built_shape() for form in forms]
      sizes = [form.built_size() for form in forms]
      read = tensors.read_of(vector)
      if vector.shape.num_elements() is None or known_size(forms) is None:
        read = _checked(read, tf.add_n([tf.convert_to_tensor(
            size, tf.int32) for size in sizes]), forms)
      parts = tf.split(read, sizes) if len(forms) > 1 else [read]
      made = [tf.reshape(part, shape) for part, shape in zip(parts, shapes)]
      for part, form in zip(made, forms):
        part.set_shape(form.shape)
      return made

  return cache.cached(vector.graph, ("unflatten", vector.name, tuple(
      form.name for form in forms)), build)


def _checked(vector, size, forms):
  """`vector`, with an assertion that it has `size` elements."""
  assertion = tf.assert_equal(
      tf.shape(vector), tf.stack([size]),
      message=assertions.LENGTH_OF_VECTOR.format(vector.name, len(forms)))
  with tf.control_dependencies([assertion]):
    return tf.identity(vector)


class _Part:
  """One leaf that is put into a vector.

  Attributes:
    name: hashable that names the leaf in the keys of the cache.
    dtype: `tf.DType`.
    description: str, for messages.
    op: `tf.Operation` that makes it, or None.
  """

  def __init__(self, leaf, graph):
    self.op = None
    if not _is_symbolic(leaf):
      leaf = _array(leaf)
      self.dtype, self.description = (
          tf.as_dtype(leaf.dtype), _describe_array(leaf))
      self.name = (leaf.dtype.str, leaf.shape, hashlib.sha256(
          np.ascontiguousarray(leaf).tobytes()).hexdigest())
    elif isinstance(leaf, tf.IndexedSlices):
      values = tensors.resolve(leaf.values, graph, "structure")
      self.dtype, self.description, self.op = (
          values.dtype, tensors.describe(values), values.op)
      if leaf.dense_shape is None:
        raise errors.ArgumentError(
            "The tf.IndexedSlices of {} do not tell their shape.".format(
                self.description),
            "Without it there is no dense form of them.",
            "Pass a dense tensor; `gf.gradient` makes one by itself.")
      self.name = (values.name, leaf.indices.name)
    else:
      leaf = tensors.resolve(leaf, graph, "structure")
      self.dtype, self.description, self.name = (
          leaf.dtype, tensors.describe(leaf), leaf.name)
      self.op = leaf.differentiable()[0].op
    self._leaf = leaf

  def vector(self):
    """Builds the vector of this leaf."""
    leaf = self._leaf
    if isinstance(leaf, np.ndarray):
      return tf.constant(leaf.ravel())
    if isinstance(leaf, tf.IndexedSlices):
      return tf.reshape(tf.math.unsorted_segment_sum(
          leaf.values, leaf.indices, leaf.dense_shape[0]), [-1])
    reads = list(map(tensors.read_of, leaf.differentiable()))
    return tf.reshape(tf.concat(reads, leaf.axis) if isinstance(
        leaf, tensors.Partitioned) else reads[0], [-1])


def concatenated(graph, parts):
  """The vector of several leaves, once.

  Args:
    graph: `tf.Graph`.
    parts: list of `_Part`.
  """
  def build():
    cache.check_not_finalized(graph, "A vector of {}".format(
        parts[0].description))
    with _tf.building(graph, parts[0].op):
      vectors = [part.vector() for part in parts]
      return tf.concat(vectors, 0) if len(vectors) > 1 else vectors[0]

  return cache.cached(
      graph, ("flatten", tuple(part.name for part in parts)), build)


def check_dtypes(described):
  """Refuses leaves of several dtypes, which make no vector.

  Args:
    described: list of (str, dtype).
  """
  first, dtype = described[0]
  for description, other in described[1:]:
    if other != dtype:
      raise errors.ArgumentError(
          "{} has another dtype than {}.".format(description, first),
          "The elements of a vector have one dtype.",
          "Leave it out, or tf.cast it; or do without a flat vector.")


def _is_symbolic(leaf):
  """Whether a leaf stands for something in a graph, not for a number."""
  return (isinstance(leaf, (tf.Tensor, tf.IndexedSlices, tf.SparseTensor, str))
          or _tf.is_variable(leaf) or _tf.is_partitioned(leaf))


def _array(leaf):
  """An array or a number as an array; refuses what is none."""
  try:
    array = np.asarray(leaf)
  except Exception:  # pylint: disable=broad-except
    # Whatever the class of the value raises.
    array = np.asarray(None)
  if array.dtype.kind not in "biufcV" or array.dtype.names:
    raise errors.ArgumentError(
        "{} is a {}, not a tensor nor an array of numbers.".format(
            "A leaf" if leaf is not None else "None", type(leaf).__name__),
        "It has no elements to put into a vector.",
        "Pass tensors, variables, names, or arrays.")
  return array


def _describe_array(array):
  return "an array ({}, {})".format(
      array.dtype.name, tensors.format_shape(array.shape))
