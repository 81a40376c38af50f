"""The elements of a Jacobian whose zeros are known, by few products.

There is one product for each group of columns, or of rows, that do not meet
(`patterns.colours`). Two more are computed with them, so that a pattern that
lacks a place is an error and no wrong number: one with other weights for all,
which the elements found have to give as well; and one of which the products of
the groups are the parts, which shows how far rounding alone takes them. Of
results of few elements there are several of the latter.
"""

import collections

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.derivatives import forward_jacobians
from gradfeed.derivatives import pullbacks
from gradfeed.derivatives.sparsity import patterns
from gradfeed import errors
from gradfeed.graph import assertions
from gradfeed.graph import cache
from gradfeed.graph import tensors

#: How many roundings may lie between what has to be equal.
_ROUNDINGS = 64

#: What differs by so many times what rounding was seen to do is wrong.
_TIMES_NOISE = 16

#: In so many numbers at least, rounding is looked for: in one it may be none.
_LEAST_SEEN = 16

#: How the products are computed.
#:   groups: int32 array with the group of each element that is multiplied.
#:   inner: array with the element of `component` for each place of the pattern.
#:   outer: array with the element of the result for each place.
#:   component: `tensors.Dense` that is multiplied: y, or x for columns.
#:   other: `tensors.Dense`, the other one.
#:   stack: the tensor with the products, or None if they are zero.
_Products = collections.namedtuple(
    "_Products", ["groups", "inner", "outer", "component", "other", "stack"])


def check_real(request):
  """Refuses what is no single pair of real tensors.

  Args:
    request: `arguments.Request`.
  """
  for role, leaves in (("y", request.ys), ("x", request.xs)):
    if len(leaves) != 1 or not isinstance(leaves[0], tensors.Dense):
      raise errors.ArgumentError(
          "sparsity is for one dense y and one dense x, and {} is {}.".format(
              role, tensors.describe_all(leaves)),
          "The pattern is that of one matrix.",
          "Pass one tensor or variable; `gf.unflatten` makes several of one.")
    if leaves[0].dtype.is_complex:
      raise errors.ArgumentError(
          "sparsity is for real tensors, and {} is complex.".format(
              tensors.describe(leaves[0])),
          "Rows of tf.gradients are conjugated; columns are not.",
          "Leave sparsity out.")


def found_pattern(request, pullback, sparse):
  """The pattern that the ops prove, if it saves anything.

  Args:
    request: `arguments.Request`.
    pullback: `pullbacks.Pullback` of one y.
    sparse: bool; whether only what is in a pattern can be returned.

  Returns:
    `patterns.Pattern`, or None for all of the Jacobian.

  Raises:
    ArgumentError: `sparse`, and there is none.
  """
  leaf, components = request.xs[0], pullback.ys + pullback.xs
  if not sparse and (len(components) > 2 or any(
      component.dtype.is_complex for component in components) or
                     not isinstance(leaf, tensors.Dense)):
    return None
  pattern = patterns.found(pullback)
  if isinstance(pattern, patterns.Pattern):
    sizes = [component.shape.num_elements() for component in components]
    # The products, with the two of the checks, have to be fewer than rows.
    least = min(np.bincount(places, minlength=1).max()
                for places in (pattern.rows, pattern.columns))
    return pattern if sparse or least + 2 < min(sizes) else None
  if sparse:
    raise errors.ArgumentError(
        "sparsity is 'auto', and the ops between {} and {} prove no "
        "pattern.".format(*map(tensors.describe, components[::-1])),
        "It is not known which elements this op reads, or how many there are: "
        "{}.".format(tensors.describe(pattern)),
        "State sparsity; or leave out sparse.")
  return None


def values(pullback, pattern, chunk, mode):
  """The elements of the Jacobian at the places of a pattern, checked.

  Args:
    pullback: `pullbacks.Pullback` of one y by one x.
    pattern: `patterns.Pattern`.
    chunk: int, how many products are computed at a time, or None for all.
    mode: str, of `forward_jacobians.MODES`; "auto" for the fewer products.

  Returns:
    `tf.Tensor` of shape [number of places] and the dtype of x; None where y
    does not depend on x.

  Raises:
    The same errors as `forward_jacobians.columns`.
  """
  made = _products(pullback, pattern, chunk, mode)
  if made.stack is None:
    return None
  y, x = pullback.ys[0], pullback.xs[0]

  def build():
    with _tf.building(y.graph):
      with tf.control_dependencies(_check_sizes(pattern, y, x)):
        width = tf.identity(pullbacks.size_of(made.other))
      # One index for each place takes a third of what two take.
      places = made.groups[made.inner] * tf.cast(width, tf.int64) + made.outer
      found = tf.gather(tf.reshape(made.stack, [-1]), places)
      rows = tf.reshape(made.stack, tf.stack([_stack_size(made), width]))
      with tf.control_dependencies(
          [_check_products(pullback, made, rows, found)]):
        return tf.cast(tf.identity(found), x.dtype)

  return cache.cached(
      y.graph, ("coloured", pattern.key, pattern.shape, made.stack.name), build)


def scattered(found, pattern, y, x):
  """The elements of a pattern in a matrix of zeros.

  Args:
    found: `tf.Tensor` from `values`.
    pattern: `patterns.Pattern`.
    y: `tensors.Dense`.
    x: `tensors.Dense`.

  Returns:
    `tf.Tensor` of shape [elements of y, elements of x].
  """
  def build():
    with _tf.building(y.graph):
      return tf.scatter_nd(_indices(pattern), found, _matrix_shape(y, x))

  return cache.cached(
      y.graph, ("scattered", pattern.key, y.name, x.name, found.name), build)


def as_sparse(found, pattern, y, x):
  """The elements of a pattern as a `tf.SparseTensor`.

  Args:
    found: as in `scattered`, or None for zeros.
    pattern, y, x: as in `scattered`.
  """
  def build():
    with _tf.building(y.graph):
      return tf.SparseTensor(
          _indices(pattern), tf.zeros([len(pattern.rows)], x.dtype)
          if found is None else found, _matrix_shape(y, x))

  return cache.cached(
      y.graph, ("sparse jacobian", pattern.key, y.name, x.name,
                None if found is None else found.name), build)


def _indices(pattern):
  return np.stack([pattern.rows, pattern.columns], -1)


def _matrix_shape(y, x):
  """[elements of y, elements of x], int64."""
  return tf.stack([tf.cast(pullbacks.size_of(component), tf.int64)
                   for component in (y, x)])


def _products(pullback, pattern, chunk, mode):
  """The products of the groups of rows or of columns, whichever are fewer.

  Returns:
    `_Products`.
  """
  y, x = pullback.ys[0], pullback.xs[0]
  by_row = _Products(
      _colours(pullback.graph, pattern, True), pattern.rows, pattern.columns,
      y, x, None)
  if pullback.results[0] is None:
    return by_row
  if mode != "reverse":
    by_column = _Products(
        _colours(pullback.graph, pattern, False), pattern.columns,
        pattern.rows, x, y, None)
    linear = None
    if mode == "forward":
      linear = forward_jacobians.transposed(pullback)
    elif _count(by_column) < _count(by_row):
      linear = forward_jacobians.transposed_or_none(pullback)
    if linear is not None:
      return _stacked(linear[0], by_column, pattern, chunk)
  return _stacked(pullback, by_row, pattern, chunk)


def _colours(graph, pattern, is_by_row):
  """`patterns.colours` of the columns, or of the rows; computed once."""
  axes = (pattern.rows, pattern.columns)
  return cache.cached(
      graph, ("colours", pattern.key, is_by_row),
      lambda: patterns.colours(*axes[::-1] if is_by_row else axes))


def _count(products):
  """The number of the groups."""
  return int(products.groups.max()) + 1 if len(products.groups) else 0


def _stacked(linear, products, pattern, chunk):
  """`products` with the stack that a map gives, if it gives one."""
  component, size = products.component, _stack_size(products)
  weights = _weights(products)

  def cotangents(scratch):
    held = scratch.placeholder_for(weights)
    shape = component.shape.as_list() if (
        component.shape.is_fully_defined()) else scratch.placeholder_for(
            _shape_of(component))
    return lambda i: [tf.reshape(
        tf.gather(held, tf.minimum(i, size - 1)), shape)]

  stack, = linear.stacked(("coloured", pattern.key), lambda: size, cotangents,
                          chunk)
  return products._replace(stack=stack)


def _stack_size(products):
  """The number of products, with those of the checks."""
  return _count(products) + 1 + _sums(products)


def _sums(products):
  """The number of products of which those of the groups are the parts."""
  known = int(products.outer.max()) + 1 if len(products.outer) else 1
  return -(-_LEAST_SEEN // known)


def _shape_of(component):
  """The shape, an int32 tensor; built once."""
  def build():
    with _tf.building(component.graph):
      return tf.shape(tensors.read_of(component))

  return cache.cached(component.graph, ("shape", component.name), build)


def _weights(products):
  """What the elements of `component` are multiplied with in each product.

  Returns:
    `tf.Tensor` of shape [products, elements]: each group, then the checks.
  """
  component, groups = products.component, products.groups

  def build():
    with _tf.building(component.graph):
      held, size = tf.constant(groups), pullbacks.size_of(component)
      if not isinstance(size, int) or size != len(groups):
        held = tf.pad(held, [[0, tf.maximum(size - len(groups), 0)]],
                      constant_values=-1)[:size]
      units = tf.one_hot(held, _count(products), axis=0, dtype=component.dtype)
      return tf.concat([
          units, _scattered_numbers(size, component.dtype)[tf.newaxis],
          tf.matmul(_parts(products, component.dtype), units)], 0)

  return cache.cached(component.graph, (
      "group weights", component.name, groups.tobytes(), _sums(products)),
                      build)


def _parts(products, dtype):
  """How often each of the last products has each group: [sums, groups]."""
  shape = [_sums(products), _count(products)]
  return tf.reshape(_scattered_numbers(shape[0] * shape[1], dtype), shape)


def _scattered_numbers(count, dtype):
  """Numbers from 0.6 to 1.6 that differ, without any order: shape [count].

  They are not drawn: the state of the program's random numbers is its own.
  """
  place = tf.range(tf.cast(count, tf.float64), dtype=tf.float64)
  digits = tf.sin(place * 78.233 + 12.9898) * 43758.5453
  return tf.cast(digits - tf.floor(digits) + 0.6, dtype)


def _check_sizes(pattern, y, x):
  """Ops that fail where y or x is no tensor that the pattern is for."""
  checks = []
  for component, places, axis in (
      (y, pattern.rows, 0), (x, pattern.columns, 1)):
    if component.shape.num_elements() is not None:
      continue  # Checked before an op was built.
    size = pullbacks.size_of(component)
    message = assertions.SIZE_OF_SPARSITY.format(
        ("rows", "columns")[axis], component.name)
    if pattern.shape is not None:
      fits = tf.equal(size, pattern.shape[axis])
    else:
      fits = size > (int(places.max()) if len(places) else -1)
    checks.append(tf.Assert(fits, [message, size]))
  return checks


def _check_products(pullback, products, stack, found):
  """An op that fails where the Jacobian has more places than the pattern.

  Args:
    pullback: `pullbacks.Pullback`.
    products: `_Products`.
    stack: `tf.Tensor` of shape [products, elements of `other`].
    found: `tf.Tensor` with the elements at the places of the pattern.
  """
  count, outer = _count(products), products.outer
  dtype = tf.float64 if stack.dtype == tf.float64 else tf.float32
  stack, found = tf.cast(stack, dtype), tf.cast(found, dtype)
  size = tf.shape(stack)[1]

  def row_sums(terms):
    return tf.math.unsorted_segment_sum(terms, tf.constant(
        outer.astype(np.int32)), size)

  weighed = found * tf.gather(tf.cast(_weights(products)[count], dtype),
                              products.inner.astype(np.int32))
  scale = row_sums(tf.abs(weighed))
  apart = tf.abs(stack[count] - row_sums(weighed))
  parts = tf.cast(_parts(products, products.component.dtype), dtype)
  noise = tf.abs(stack[count + 1:] - tf.matmul(parts, stack[:count]))
  precision = _precision(pullback)
  largest = _finite_maximum(scale)
  noise = _TIMES_NOISE * _finite_maximum(noise)
  if pullback.has_doubtful_columns():  # What is not linear is no rounding.
    noise = tf.minimum(noise, np.sqrt(precision) * largest)
  allowed = _ROUNDINGS * precision * (scale + largest) + noise
  # The products that have no place in a row are zero there, however large the
  # other rows are.
  has_place = _has_place(products, size)
  outside = tf.reduce_max(tf.concat([
      _only(tf.logical_not(has_place), tf.abs(stack[:count])),
      tf.zeros([1, size], dtype)], 0), 0)
  # What is not a number is no proof of anything.
  wrong = tf.maximum(
      _only(apart > allowed, apart),
      _only(outside > _ROUNDINGS * precision * scale, outside))
  wrong = tf.concat([wrong, tf.zeros([1], dtype)], 0)
  message = assertions.ELEMENTS_OUTSIDE.format(
      pullback.ys[0].name, pullback.xs[0].name, products.other.name)
  return tf.Assert(tf.logical_not(tf.reduce_any(wrong > 0)), [
      message, tf.reduce_max(wrong), tf.argmax(wrong)])


def _has_place(products, size):
  """Where a product has an element of the pattern: [groups, size] of bool."""
  outer = products.outer
  known = int(outer.max()) + 1 if len(outer) else 0
  # Of a shape that is known, so that TensorFlow computes it once.
  has_place = tf.scatter_nd(
      np.stack([products.groups[products.inner], outer], -1).astype(np.int32),
      tf.ones([len(outer)], tf.int32), [_count(products), known]) > 0
  return tf.pad(has_place, [[0, 0], [0, size - known]])


def _finite_maximum(numbers):
  """The largest of some numbers that are not negative; 0 where none is."""
  return tf.maximum(tf.reduce_max(
      _only(tf.math.is_finite(numbers), numbers)), 0)


def _only(condition, numbers):
  """`numbers` where the condition is true, and zero elsewhere."""
  return tf.where_v2(condition, numbers, tf.zeros([], numbers.dtype))


def _precision(pullback):
  """The precision of the tensors between x and y that have the least."""
  return max(_tf.PRECISIONS.get(dtype.base_dtype, 0.0)
             for dtype in pullback.dtypes())
