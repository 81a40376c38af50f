"""TFRecord files of `tf.train.Example`."""

import gzip
import itertools
import zlib

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.streaming.formats import batch_parsing
from gradfeed.streaming.formats import example_bytes
from gradfeed.streaming.formats import feature_values
from gradfeed.streaming.formats import files
from gradfeed.streaming.formats import row_layout

_BLOCK = 2 ** 20
_FEW_RECORDS = 64  # For which it does not pay to build a graph.
_AT_ONCE = 64  # Records that are read before one looks whether to stop.
FRAME = 16  # Bytes of a record beside its content: its length, two checksums.


class Examples:
  """Takes the values of inputs out of records.

  A feature is a list of numbers of the dtype of Examples; or bytes that are a
  `TensorProto` (`tf.io.serialize_tensor`) or the numbers themselves, in the
  dtype of the input; a key "image:tensor" or "image:raw" says which. Where the
  only input is of dtype string and has no key, its values are the records as
  they stand: the model parses Examples itself.

  Attributes:
    is_raw: bool, whether the values are the records as they stand.
  """

  def __init__(self, inputs, keys):
    """Reads nothing yet.

    Args:
      inputs: list of the inputs.
      keys: list with a key, or None, for each of them.
    """
    self._inputs, self._keys = inputs, keys
    self.is_raw = len(inputs) == 1 and keys == [None] and (
        row_layout.dtype_of(inputs[0]) == object)
    self._parser = None  # (the features, what parses them) of the last block.

  def values_at_once(self, records, are_many):
    """The values of many records: see `row_layout.RowReader`.

    Args:
      records: list of bytes, one at least.
      are_many: bool, whether it pays to build a graph.

    Returns:
      list with an array of shape [records, values] for each input.

    Raises:
      Unreadable: they are not what `values_of` gives for each of them.
    """
    if self.is_raw:
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
    arrays, different_names = self._parsed(
        records, tuple(dict.fromkeys(wanted)))
    if any(self._sources(names) != sources for names in different_names):
      raise row_layout.Unreadable("has other features")
    array_of = dict(zip(dict.fromkeys(wanted), arrays))
    return [
        feature_values.of_many(array_of[feature], leaf, form)
        for feature, leaf, (_, form) in zip(wanted, self._inputs, sources)]

  def _parsed(self, records, features):
    """As `example_bytes.parsed`, for all forms of records."""
    try:
      return example_bytes.parsed(records, features)
    except row_layout.Unreadable:
      pass  # TensorFlow may read it.
    if self._parser is None or self._parser[0] != features:
      self._parser = features, batch_parsing.examples_program(features)
    return self._parser[1](records)

  def values_of(self, record):
    """The values of a record, a list with a flat array for each input.

    Raises:
      Unreadable: with the reason.
    """
    if self.is_raw:
      return [np.array([record], object)]
    features = _features_of(record)
    return [
        feature_values.of_one(features[name], leaf, form)
        for leaf, (name, form) in zip(self._inputs, self._sources(features))]

  def _sources(self, names):
    """(name of the feature, form as in `_numbers_in_bytes`) for each input.

    Args:
      names: container of the names of the features of an Example.

    Raises:
      Unreadable: there is no such feature.
    """
    sources = []
    for leaf, key in zip(self._inputs, self._keys):
      key, form = _key_and_form(names, key)
      sources.append((_name_of(names, leaf, key, len(self._inputs)), form))
    return sources


class RecordReader(row_layout.RowReader):
  """Reads the features of Examples, or whole records: see `Examples`."""

  def __init__(self, path, inputs, keys):
    super().__init__(path, inputs)
    self._examples = Examples(inputs, keys)
    self._few = _FEW_RECORDS
    self._records = _tf.records(path)

  def _next_rows(self, count):
    rows = []
    while len(rows) < count and not self.is_stopped:
      part = self._next_few(min(count - len(rows), _AT_ONCE))
      if not part:
        break
      rows.extend(part)
    return rows

  def _next_few(self, count):
    """As `_next_rows`, without a look at `is_stopped`."""
    rows = []
    try:
      rows.extend(itertools.islice(self._records, count))
    except tf.errors.OpError as error:
      number = self.position + len(rows)
      raise files.not_rows(
          self._path, "a whole TFRecord file" if number else "a TFRecord file",
          "Record {} cannot be read: {}.".format(
              number, error.message.split("\n")[0].split(";")[0]),
          "Write it again; rows before it that are done are kept." if
          number else "Write it with tf.io.TFRecordWriter.") from None
    self.position += len(rows)
    self._bytes += sum(map(len, rows)) + FRAME * len(rows)
    if not rows and self._path.endswith(".gz"):
      self._check_compressed_size()
    return rows

  def _next(self):
    return next(iter(self._next_few(1)), None)

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
    return self._examples.values_at_once(records, are_many)

  def _values_of(self, record):
    return self._examples.values_of(record)

  def close(self):
    self._records, self._examples = iter(()), None


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
