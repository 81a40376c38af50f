"""TFRecord files of `tf.train.Example`."""

import os

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.streaming.formats import files
from gradfeed.streaming.formats import row_layout

_FRAME = 16  # What a record has beside its content: a length and two sums.


class RecordReader(row_layout.RowReader):
  """The features of Examples; or the records as they are.

  A feature is a list of numbers of the dtype of Examples; or bytes that are a
  `TensorProto` (`tf.io.serialize_tensor`) or the numbers themselves, in the
  dtype of the input. An input of dtype string without a key, alone, is given
  whole records: a model that parses Examples itself.
  """

  def __init__(self, path, inputs, keys):
    super().__init__(path, inputs)
    self._keys = keys
    self._is_raw = len(inputs) == 1 and keys == [None] and (
        row_layout.dtype_of(inputs[0]) == object)
    os.stat(path)  # TensorFlow tells later, and not as Python does.
    self._records = _tf.records(path)

  def fingerprint(self):
    return files.fingerprint(self._path) + [
        str(key).encode() for key in self._keys]

  def _taken(self):
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
    return record

  def _values(self, record):
    if self._is_raw:
      return [np.array([record], object)]
    example = tf.train.Example()
    try:
      example.ParseFromString(record)
    except Exception:  # Which class it is depends on the version of protobuf.
      raise row_layout.Unreadable("is not a tf.train.Example") from None
    features = example.features.feature
    return [_numbers(features[_name_of(features, leaf, key, self.inputs)], leaf)
            for leaf, key in zip(self.inputs, self._keys)]

  def close(self):
    self._records = iter(())


def _name_of(features, leaf, key, inputs):
  """The name of the feature of `leaf` in an Example."""
  wanted = [key] if key is not None else row_layout.names_of(leaf)
  if key is None and len(features) == len(inputs) == 1:
    wanted = list(features)
  for name in wanted:
    if name in features:
      return name
  raise row_layout.Unreadable("has no feature '{}' but {}".format(
      wanted[0], ", ".join(map(repr, sorted(features))) or "none"))


def _numbers(feature, leaf):
  """The flat values of a feature, in the dtype of `leaf`."""
  dtype, kind = row_layout.dtype_of(leaf), feature.WhichOneof("kind")
  if kind is None:
    return np.zeros([0], dtype)
  values = getattr(feature, kind).value
  if kind == "bytes_list":
    return np.array(values, object) if dtype == object else (
        _of_bytes(values, dtype, leaf))
  if dtype == object:
    raise row_layout.Unreadable("has numbers for '{}', which is string".format(
        leaf.name))
  return _cast(np.array(values, np.int64 if kind == "int64_list"
                        else np.float32), dtype, leaf)


def _of_bytes(values, dtype, leaf):
  if len(values) == 1:
    proto = _tf.TensorProto()
    try:
      proto.ParseFromString(values[0])
      return _cast(np.ravel(tf.make_ndarray(proto)), dtype, leaf)
    except row_layout.Unreadable:
      raise
    except Exception:  # No TensorProto, in one of many ways.
      pass
    if values[0] and len(values[0]) % dtype.itemsize == 0 and (
        leaf.shape.num_elements() in (
            None, len(values[0]) // dtype.itemsize)):
      return np.frombuffer(values[0], dtype)
  raise row_layout.Unreadable(
      "has bytes for '{}' that are neither a TensorProto nor {}".format(
          leaf.name, dtype.name))


def _cast(values, dtype, leaf):
  """Whole numbers stay whole; what else a cast loses is checked when fed."""
  if dtype.kind in "iu" and values.dtype.kind == "f" and (
      values != np.floor(values)).any():
    raise row_layout.Unreadable("has {!r} for '{}', which is {}".format(
        values[values != np.floor(values)][0].item(), leaf.name, dtype.name))
  return values.astype(dtype)


class RecordWriter:
  """An Example for each row, with a feature for each output.

  A feature is a list of floats or of whole numbers, where that loses nothing;
  or else (float64, complex) the bytes of a `TensorProto`, as `tf.io.
  parse_tensor` reads it.
  """

  def __init__(self, path, names):
    self._path = path
    self._names = names
    self._file = files.Growing(path + ".partial")

  def begin(self, unused_results):
    self._file.open()

  def resume(self, state):
    self._file.open(state["size"])

  def write(self, results):
    chunk = self._path + ".chunk"
    try:
      with tf.io.TFRecordWriter(chunk) as writer:
        for row in zip(*results):
          writer.write(tf.train.Example(features=tf.train.Features(feature={
              name: _feature(value) for name, value in zip(self._names, row)
          })).SerializeToString())
      with open(chunk, "rb") as source:
        self._file.write(source.read())
    except tf.errors.OpError as error:
      raise OSError(str(error.message)) from error
    finally:
      if os.path.exists(chunk):
        os.remove(chunk)
    return {"size": self._file.tell()}

  def finish(self, unused_count):
    self.close()
    return [[self._file.path, self._path]]

  def close(self):
    self._file.close()


def _feature(value):
  value = np.asarray(value)
  flat = value.ravel()
  if value.dtype.kind in "OSU":
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[
        one if isinstance(one, bytes) else str(one).encode() for one in flat]))
  if value.dtype.kind in "biu" and value.dtype != np.uint64:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=flat.tolist()))
  if value.dtype.kind != "c" and value.dtype.itemsize <= 4:
    return tf.train.Feature(float_list=tf.train.FloatList(
        value=flat.astype(np.float32).tolist()))
  return tf.train.Feature(bytes_list=tf.train.BytesList(
      value=[tf.make_tensor_proto(value).SerializeToString()]))
