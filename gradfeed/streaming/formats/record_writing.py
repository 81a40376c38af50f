"""Results as TFRecord files of `tf.train.Example`."""

import errno
import os

import numpy as np

from gradfeed._tf import tf
from gradfeed.streaming.formats import files
from gradfeed.streaming.formats import row_layout
from gradfeed.streaming.formats import tfrecords

#: The numbers of the fields of `tf.train.Feature`, and of its lists.
_BYTES_LIST, _FLOAT_LIST, _VALUE = 1, 2, 1


class RecordWriter(files.RowWriter):
  """Writes an Example for each row, with a feature for each output.

  A feature is a list of floats or of whole numbers, where that loses nothing;
  or else (float64, complex) the bytes of a `TensorProto`, as `tf.io.
  parse_tensor` reads it.
  """

  def _encoded(self, results):
    chunk, size = self._path + ".chunk", 0
    names = [_field(1, name.encode()) for name in self._names]
    try:
      with tf.io.TFRecordWriter(chunk) as writer:
        for row in zip(*map(_features, results)):
          record = _field(1, b"".join([
              _field(1, name + _field(2, feature))
              for name, feature in zip(names, row)]))
          writer.write(record)
          size += len(record) + tfrecords.FRAME
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


def _field(number, content):
  """A field of a protocol buffer: bytes, a text or a message."""
  return _head(number, len(content)) + content


def _head(number, size):
  """What stands before the `size` bytes of a field."""
  head = bytearray([number << 3 | 2])
  while size > 127:
    head.append(size & 127 | 128)
    size >>= 7
  head.append(size)
  return bytes(head)


def _features(values):
  """The `tf.train.Feature` of each row of an output, which lose nothing.

  Args:
    values: array of shape [rows, ...].

  Returns:
    iterable of bytes.
  """
  if not values.size:
    head = None
  elif values.dtype.kind in "fV" and values.dtype.itemsize <= 4:
    values = values.astype("<f4")
    head = _nested_heads(_FLOAT_LIST, b"", values[:1].nbytes)
  else:
    head = _head_of_tensors(values)
  if head is None:
    return (_feature(row).SerializeToString() for row in values)
  rows = values.reshape(len(values), -1)
  return (head + row.tobytes() for row in rows)


def _nested_heads(kind, begin, size):
  """What stands before `size` bytes, of which all but the last are the value.

  Args:
    kind: int, the field of the feature with the list that has the value.
    begin: bytes, the first of the value.
    size: int, how many bytes follow.
  """
  value = _head(_VALUE, len(begin) + size) + begin
  return _head(kind, len(value) + size) + value


def _head_of_tensors(values):
  """What stands before the numbers in a feature that holds a `TensorProto`.

  Args:
    values: array of shape [rows, ...].

  Returns:
    bytes, the same for all rows; None where rows have no such form.
  """
  if values.dtype.kind not in "fc":
    return None
  numbers = values[0].tobytes()
  content = tf.make_tensor_proto(values[0]).SerializeToString()
  if tf.make_tensor_proto(values[0]).tensor_content != numbers or (
      not content.endswith(numbers)):
    return None  # One number alone is stored in another way.
  return _nested_heads(_BYTES_LIST, content[:-len(numbers)], len(numbers))


def _feature(value):
  """The `tf.train.Feature` of one value of an output."""
  value = row_layout.as_array(value)
  flat = value.ravel()
  if value.dtype.kind in "OSU":
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[
        text if isinstance(text, bytes) else str(text).encode()
        for text in flat.tolist()]))
  if value.dtype.kind in "biu" and value.dtype != np.uint64:
    return tf.train.Feature(int64_list=tf.train.Int64List(
        value=flat.astype(np.int64).tolist()))
  if value.dtype.kind in "fV" and value.dtype.itemsize <= 4:
    return tf.train.Feature(float_list=tf.train.FloatList(
        value=flat.astype(np.float32).tolist()))
  return tf.train.Feature(bytes_list=tf.train.BytesList(
      value=[tf.make_tensor_proto(value).SerializeToString()]))
