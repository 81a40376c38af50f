"""TFRecord files of `tf.train.Example`."""

import errno
import gzip
import os
import warnings
import zlib

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.streaming.formats import batch_parsing
from gradfeed.streaming.formats import files
from gradfeed.streaming.formats import row_layout

_BLOCK = 2 ** 20
_FEW_RECORDS = 64  # For which it does not pay to build a graph.
#: The first byte of a `TensorProto` that is written as its fields are numbered.
_DTYPE_TAG = 8
_FRAME = 16  # Bytes of a record beside its content: its length, two checksums.


class RecordReader(row_layout.RowReader):
  """Reads the features of Examples, or whole records.

  A feature is a list of numbers of the dtype of Examples; or bytes that are a
  `TensorProto` (`tf.io.serialize_tensor`) or the numbers themselves, in the
  dtype of the input; a key "image:tensor" or "image:raw" says which. Where the
  only input is of dtype string and has no key, its values are the records as
  they stand: the model parses Examples itself.
  """

  def __init__(self, path, inputs, keys):
    super().__init__(path, inputs)
    self._keys = keys
    self._is_raw = len(inputs) == 1 and keys == [None] and (
        row_layout.dtype_of(inputs[0]) == object)
    self._few = _FEW_RECORDS
    self._parser = None  # (the features, what parses them) of the last block.
    self._records = _tf.records(path)

  def _next_raw(self):
    try:
      record = next(self._records, None)
    except tf.errors.OpError as error:
      raise files.not_rows(
          self._path, "a whole TFRecord file" if self.position else
          "a TFRecord file", "Record {} cannot be read: {}.".format(
              self.position, error.message.split("\n")[0].split(";")[0]),
          "Write it again; rows before it that are done are kept." if
          self.position else "Write it with tf.io.TFRecordWriter.") from None
    if record is not None:
      self._bytes += len(record) + _FRAME
    elif self._path.endswith(".gz"):
      self._check_compressed_size()
    return record

  def _check_compressed_size(self):
    """Refuses a compressed file that was cut short, at which TensorFlow ends.

    Raises:
      ModelFileError: it is not whole.
    """
    try:
      size = 0
      with gzip.open(self._path) as source:
        for block in iter(lambda: source.read(_BLOCK), b""):
          size += len(block)
      if size != self._bytes:
        raise EOFError("it ends early")
    except (EOFError, OSError, zlib.error) as error:
      raise files.damaged(self._path, "a whole TFRecord file", self.position,
                          error) from None

  def _values_at_once(self, records, are_many):
    if self._is_raw:
      array = np.empty([len(records), 1], object)
      array[:, 0] = records
      return [array]
    if not are_many:
      raise row_layout.Unreadable("is alone")
    features = _features_of(records[0])
    sources = self._sources(features)
    wanted = []
    for name, _ in sources:
      kind = features[name].WhichOneof("kind")
      wanted.append((name, kind, len(
          getattr(features[name], kind).value) if kind else 0))
    if not all(count for _, _, count in wanted):
      raise row_layout.Unreadable("has a feature without values")
    if self._parser is None or self._parser[0] != wanted:
      self._parser = wanted, batch_parsing.examples_program(
          tuple(dict.fromkeys(wanted)))
    arrays, different_names = self._parser[1](records)
    if any(self._sources(names) != sources for names in different_names):
      raise row_layout.Unreadable("has other features")
    array_of = dict(zip(dict.fromkeys(wanted), arrays))
    return [
        _at_once(array_of[feature], leaf, form)
        for feature, leaf, (_, form) in zip(wanted, self.inputs, sources)]

  def _values_of(self, record):
    if self._is_raw:
      return [np.array([record], object)]
    features = _features_of(record)
    return [_numbers(features[name], leaf, form) for leaf, (name, form) in zip(
        self.inputs, self._sources(features))]

  def _sources(self, names):
    """(name of the feature, form as in `_numbers_in_bytes`) for each input.

    Args:
      names: container of the names of the features of an Example.

    Raises:
      Unreadable: there is no such feature.
    """
    sources = []
    for leaf, key in zip(self.inputs, self._keys):
      key, form = _key_and_form(names, key)
      sources.append((_name_of(names, leaf, key, len(self.inputs)), form))
    return sources

  def close(self):
    self._records, self._parser = iter(()), None


def _features_of(record):
  """The map from the names of the features of an Example to them.

  Raises:
    Unreadable: the bytes are not an Example.
  """
  example = tf.train.Example()
  try:
    example.ParseFromString(record)
  except Exception:  # Which class it is depends on the version of protobuf.
    raise row_layout.Unreadable("is not a tf.train.Example") from None
  return example.features.feature


def _at_once(values, leaf, form):
  """The values of a feature in many Examples, in the dtype of `leaf`.

  Args:
    values: array of shape [Examples, values], as TensorFlow parses them.
    leaf, form: as in `_numbers`.

  Raises:
    Unreadable: `_numbers` gives something else for one of them.
  """
  dtype = row_layout.dtype_of(leaf)
  if values.dtype == object and dtype != object:
    if values.shape[1] != 1:
      raise row_layout.Unreadable("has several texts")
    return _numbers_in_many_bytes(values[:, 0].tolist(), dtype, leaf, form)
  if values.dtype != object and dtype == object:
    raise row_layout.Unreadable("has numbers")
  return values if dtype == object else _cast(values, dtype, leaf)


def _key_and_form(features, key):
  """Splits "image:raw" and "image:tensor" into a name and what its bytes are.

  Args:
    features: map from the names of the features of an Example to them.
    key: str, or None.

  Returns:
    (str or None, the name; "raw", "tensor" or None).
  """
  if key is not None and key not in features:
    name, _, form = key.rpartition(":")
    if form in ("raw", "tensor"):
      return name or None, form
  return key, None


def _name_of(features, leaf, key, inputs):
  """The name of the feature with the values of `leaf` in an Example.

  Args:
    features: map from the names of the features to them.
    leaf: the input.
    key: str, or None.
    inputs: int, how many inputs the Example has values of.

  Raises:
    Unreadable: there is no such feature.
  """
  candidates = row_layout.candidate_names(leaf, key, features, inputs)
  for name in candidates:
    if name in features:
      return name
  raise row_layout.Unreadable("has no feature '{}' but {}".format(
      candidates[0], ", ".join(map(repr, sorted(features))) or "none"))


def _numbers(feature, leaf, form):
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


class RecordWriter(files.RowWriter):
  """Writes an Example for each row, with a feature for each output.

  A feature is a list of floats or of whole numbers, where that loses nothing;
  or else (float64, complex) the bytes of a `TensorProto`, as `tf.io.
  parse_tensor` reads it.
  """

  def _encoded(self, results):
    chunk, size = self._path + ".chunk", 0
    try:
      with tf.io.TFRecordWriter(chunk) as writer:
        for row in zip(*results):
          record = tf.train.Example(features=tf.train.Features(feature={
              name: _feature(value) for name, value in zip(self._names, row)
          })).SerializeToString()
          writer.write(record)
          size += len(record) + _FRAME
      with open(chunk, "rb") as source:
        content = source.read()
      if len(content) != size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
      return content
    except tf.errors.OpError as error:
      raise OSError(str(error.message)) from error
    finally:
      if os.path.exists(chunk):
        os.remove(chunk)


def _feature(value):
  """The `tf.train.Feature` that loses nothing of one value of an output."""
  value = row_layout.as_array(value)
  flat = value.ravel()
  if value.dtype.kind in "OSU":
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[
        text if isinstance(text, bytes) else str(text).encode()
        for text in flat.tolist()]))
  if value.dtype.kind in "biu" and value.dtype != np.uint64:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=flat.tolist()))
  if value.dtype.kind != "c" and value.dtype.itemsize <= 4:
    return tf.train.Feature(float_list=tf.train.FloatList(
        value=flat.astype(np.float32).tolist()))
  return tf.train.Feature(bytes_list=tf.train.BytesList(
      value=[tf.make_tensor_proto(value).SerializeToString()]))
