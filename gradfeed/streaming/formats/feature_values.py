"""What the features of a `tf.train.Example` are in the dtype of an input."""

import warnings

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.streaming.formats import row_layout

#: The first byte of a `TensorProto` that is written as its fields are numbered.
_DTYPE_TAG = 8


def of_one(feature, leaf, form):
  """The values of a feature, a flat array in the dtype of `leaf`.

  Args:
    feature: `tf.train.Feature`.
    leaf: the input.
    form: as in `_numbers_in_bytes`.

  Raises:
    Unreadable: they are no values of that dtype.
  """
  dtype, kind = row_layout.dtype_of(leaf), feature.WhichOneof("kind")
  if kind is None:
    return np.zeros([0], dtype)
  values = getattr(feature, kind).value
  if kind == "bytes_list":
    return np.array(values, object) if dtype == object else (
        _numbers_in_bytes(values, dtype, leaf, form))
  if dtype == object:
    raise row_layout.Unreadable("has numbers for '{}', which is string".format(
        leaf.name))
  return _cast(np.array(values, np.int64 if kind == "int64_list"
                        else np.float32), dtype, leaf)


def of_many(values, leaf, form):
  """The values of a feature in many Examples, in the dtype of `leaf`.

  Args:
    values: array of shape [Examples, values], as TensorFlow parses them.
    leaf, form: as in `of_one`.

  Raises:
    Unreadable: `of_one` gives something else for one of them.
  """
  dtype = row_layout.dtype_of(leaf)
  if values.dtype == object and dtype != object:
    if values.shape[1] != 1:
      raise row_layout.Unreadable("has several texts")
    return _numbers_in_many_bytes(values[:, 0].tolist(), dtype, leaf, form)
  if values.dtype != object and dtype == object:
    raise row_layout.Unreadable("has numbers")
  return values if dtype == object else _cast(values, dtype, leaf)


def _numbers_in_bytes(values, dtype, leaf, form):
  """The numbers in a feature of bytes: a `TensorProto`, or the bare numbers.

  Bytes of exactly the length of a row are bare numbers; a `TensorProto` has its
  dtype and shape in it, and is one only where it is written as the same bytes.

  Args:
    values: list of bytes.
    dtype: `np.dtype` of the numbers.
    leaf: the input.
    form: "raw" or "tensor", what the caller says that they are; or None.

  Raises:
    Unreadable: they are neither, or may be both.
  """
  if len(values) == 1:
    size = _row_size(leaf)
    is_raw = form != "tensor" and bool(values[0]) and (
        len(values[0]) % dtype.itemsize == 0 if size is None or form == "raw"
        else len(values[0]) == size * dtype.itemsize)
    tensor = None if form == "raw" else _tensor_in(
        values[0], is_certain=form == "tensor")
    is_exact = is_raw and size is not None
    if tensor is not None and is_exact and tensor.size == size:
      raise row_layout.Unreadable(
          "has bytes for '{}' that may be {} and may be a TensorProto; say "
          "which by a key such as 'name:raw' or 'name:tensor'".format(
              leaf.name, dtype.name))
    if tensor is not None and not is_exact:
      return _cast(tensor, dtype, leaf)
    if is_raw:
      return np.frombuffer(values[0], dtype)
  raise row_layout.Unreadable(
      "has bytes for '{}' that are neither a TensorProto nor {}".format(
          leaf.name, dtype.name))


def _numbers_in_many_bytes(contents, dtype, leaf, form):
  """`_numbers_in_bytes` of many features of one form and length.

  The header of a `TensorProto` says where its numbers begin. What begins as the
  first one does, and is as long, is the same but for the numbers.

  Args:
    contents: list of bytes, one at least.
    dtype, leaf, form: as in `_numbers_in_bytes`.

  Returns:
    array of shape [contents, values].

  Raises:
    Unreadable: as there; or they are not all of one form and length.
  """
  first = _numbers_in_bytes(contents[:1], dtype, leaf, form)
  length = len(contents[0])
  if any(len(content) != length for content in contents):
    raise row_layout.Unreadable("has another length")
  matrix = np.frombuffer(b"".join(contents), np.uint8).reshape(-1, length)
  if first.tobytes() == contents[0]:
    for i in np.flatnonzero(matrix[:, 0] == _DTYPE_TAG):
      if _numbers_in_bytes([contents[i]], dtype, leaf, form).tobytes() != (
          contents[i]):
        raise row_layout.Unreadable("has a TensorProto")
    return matrix.view(dtype)
  proto = _tf.TensorProto.FromString(contents[0])
  begin = length - len(proto.tensor_content)
  stored = np.dtype(tf.as_dtype(proto.dtype).as_numpy_dtype)
  is_last = proto.SerializeToString() == contents[0] and (
      proto.ListFields()[-1][0].name == "tensor_content")
  if not is_last or length - begin != first.size * stored.itemsize or (
      (matrix[:, :begin] != matrix[0, :begin]).any()):
    raise row_layout.Unreadable("has another header")
  return _cast(np.ascontiguousarray(matrix[:, begin:]).view(stored), dtype,
               leaf)


def _row_size(leaf):
  """How many numbers a row of an input has; None where that is not known."""
  if leaf.shape.ndims is None:
    return None
  dims = leaf.shape.as_list()
  if dims and dims[0] in (None, 1):
    dims = dims[1:]
  return None if None in dims else int(np.prod(dims, dtype=np.int64))


def _tensor_in(content, is_certain):
  """The numbers of a `TensorProto`, flat; None where bytes are not one.

  Args:
    content: bytes.
    is_certain: bool; whether the caller says that they are one.
  """
  proto = _tf.TensorProto()
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")
      proto.ParseFromString(content)
    array = np.ravel(tf.make_ndarray(proto))
    if is_certain:
      return array
    proto.DiscardUnknownFields()
    fields = {field.name for field, _ in proto.ListFields()}
    if proto.SerializeToString() == content and (
        len(fields) == 2 + bool(array.size)) and (
            fields >= {"dtype", "tensor_shape"}):
      return array
  except Exception:  # Its parsers raise many classes.
    pass
  return None


def _cast(values, dtype, leaf):
  """Casts values to the dtype of `leaf`, if that loses no more than precision.

  Raises:
    Unreadable: a value would be another one.
  """
  if values.dtype == dtype:
    return values
  if values.dtype.kind not in "biufcV":
    raise row_layout.Unreadable("has {} for '{}', which is {}".format(
        values.dtype, leaf.name, dtype.name))
  with warnings.catch_warnings(), np.errstate(all="ignore"):
    warnings.simplefilter("ignore")  # Of imaginary parts.
    cast = values.astype(dtype)
    if dtype.kind in "biu" or values.dtype.kind == "c" and dtype.kind != "c":
      lost = cast.astype(values.dtype) != values
    else:  # A number that becomes infinite.
      lost = np.isfinite(values) & ~np.isfinite(cast)
  if lost.any():
    raise row_layout.Unreadable("has {!r} for '{}', which is {}".format(
        values[lost][0].item(), leaf.name, dtype.name))
  return cast
