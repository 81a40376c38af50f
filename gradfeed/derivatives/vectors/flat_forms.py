"""Derivatives by a list of xs in the form of one vector: `flat=True`."""

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.derivatives import arguments
from gradfeed.derivatives import cotangent_types
from gradfeed.derivatives import result_forms
from gradfeed.derivatives.vectors import flattening
from gradfeed.derivatives import waits
from gradfeed import errors
from gradfeed.graph import cache
from gradfeed.graph import nest
from gradfeed.graph import tensors


def check(flat, request, unconnected="error", sparse=False):
  """Refuses what cannot be had as one vector.

  Args:
    flat: what the caller passed.
    request: `arguments.Request`.
    unconnected, sparse: as in `gradient`.
  """
  arguments.check_flag("flat", flat)
  if not flat:
    return
  if unconnected == "none":
    raise errors.ArgumentError(
        "flat=True and unconnected='none' do not go together.",
        "A vector has no place for None.",
        "Use unconnected='zero': zeros in the places of that x.")
  if sparse:
    raise errors.ArgumentError(
        "flat=True and sparse=True do not go together.",
        "A vector is dense.", "Leave one of them out.")
  flattening.check_dtypes([(tensors.describe(x), x.dtype) for x in request.xs])


def packed(request, derivatives, flat):
  """The derivatives by each x in the structure of x, or as one vector.

  Args:
    request: `arguments.Request`.
    derivatives: list with one for each of its xs, dense or sparse.
    flat: bool.

  Returns:
    The structure of x; or, with `flat`, a `tf.Tensor` of shape [n].
  """
  if not flat:
    return nest.pack(request.x, derivatives)

  def build():
    with _tf.building(request.graph):
      vector = waits.through(request.graph, derivatives, flattening.flatten)
    vector.set_shape([flattening.known_size(_forms(request))])
    return vector

  return cache.cached(request.graph, ("flat", tuple(
      map(result_forms.name_of, derivatives))), build)


def rows(request, y, derivatives, size=None):
  """The derivatives of one y by each x, side by side.

  Args:
    request: `arguments.Request`.
    y: `tensors.Dense`, what was differentiated.
    derivatives: list with a `tf.Tensor` of shape y.shape + x.shape for each x.
    size: None; or "y" to have the axes of y as one.

  Returns:
    `tf.Tensor` of shape y.shape + [n], or [size of y, n].
  """
  forms = _forms(request)

  def build():
    with _tf.building(request.graph):
      leading = flattening.Form(y).built_shape()
      if size:
        leading = [tf.reduce_prod(tf.convert_to_tensor(leading, tf.int32))]
      leading = tf.convert_to_tensor(leading, tf.int32)
      made = tf.concat([tf.reshape(derivative, tf.concat(
          [leading, [form.built_size()]], 0))
                        for derivative, form in zip(derivatives, forms)], -1)
      made.set_shape(tf.TensorShape([y.shape.num_elements()] if size else (
          y.shape)).concatenate([flattening.known_size(forms)]))
      return made

  return cache.cached(request.graph, ("flat rows", y.name, size, tuple(
      derivative.name for derivative in derivatives)), build)


def matrix(request, blocks, gradients):
  """The second derivatives by each pair of xs as one matrix.

  Args:
    request: `arguments.Request`.
    blocks: list, for each x, of the list of the derivatives of its gradient.
    gradients: list with the gradient by each x, a `tf.Tensor`.

  Returns:
    `tf.Tensor` of shape [n, n].
  """
  stacked = [rows(request, tensors.Dense(gradient), own, "y")
             for gradient, own in zip(gradients, blocks)]

  def build():
    with _tf.building(request.graph):
      return tf.concat(stacked, 0)

  return cache.cached(request.graph, ("flat matrix", tuple(
      part.name for part in stacked)), build)


def tangents(v, request, flat):
  """What the caller passed as the tangents of all xs; adds no op.

  Args:
    v: the structure of x; or, with `flat`, a tensor, variable, name or array of
      shape [n].
    request: `arguments.Request`.
    flat: bool.

  Returns:
    list with a tangent for each component of each x, as
    `arguments.tangents`.
  """
  if not flat:
    return arguments.tangents(v, request.x, request.xs, request.graph)
  forms, v = _forms(request), _tf.dereference(v)
  if not isinstance(v, (tf.Tensor, str)) and not _tf.is_variable(v):
    array = cotangent_types.as_array(v, request.xs[0], cotangent_types.TANGENT)
    return arguments.tangents(
        nest.pack(request.x, flattening.split_array(
            np.asarray(array), forms, errors.TangentError, "v")),
        request.x, request.xs, request.graph)
  given = tensors.resolve(v, request.graph, "v")
  if given.dtype != request.xs[0].dtype:
    raise errors.TangentError(
        "v = {} does not have the dtype of x.".format(tensors.describe(given)),
        "The first x is {}.".format(tensors.describe(request.xs[0])),
        "tf.cast it.")
  flattening.check_length(given, forms, errors.TangentError, "v")
  return [_Piece(given, request.xs, forms, i, j)
          for i, x in enumerate(request.xs)
          for j in range(len(x.differentiable()))]


class _Piece:
  """What a vector of the graph holds for one component of one x.

  Attributes:
    key: hashable that names the content, for the keys of the cache.
  """

  def __init__(self, given, xs, forms, leaf, component):
    self._given, self._xs, self._forms = given, xs, forms
    self._leaf, self._component = leaf, component
    self.key = ("piece", given.name, tuple(form.name for form in forms), leaf,
                component)

  def of(self, unused_copy):
    """The cotangent of a copy: the same value."""
    return self

  def tensor(self):
    """Builds it, with an assertion of the length of the vector if needed."""
    part = flattening.split_tensor(self._given, self._forms)[self._leaf]
    x = self._xs[self._leaf]
    if not isinstance(x, tensors.Partitioned):
      return part
    return cache.cached(
        part.graph, ("split", part.name, x.name),
        lambda: tf.split(part, x.sizes, x.axis))[self._component]


def _forms(request):
  """The `flattening.Form` of each x."""
  return [flattening.Form(x) for x in request.xs]
