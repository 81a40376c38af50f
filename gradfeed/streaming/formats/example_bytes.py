"""The values of many Examples of one form, out of their bytes by NumPy.

An Example is a nest of fields, each of which begins with its number and its
length. Where these bytes, and the names between them, are the same in two
records of one length, their values stand at the same places.
"""

import collections
import itertools

import numpy as np

from gradfeed.streaming.formats import npy
from gradfeed.streaming.formats import row_layout

#: It is faster to parse records of more forms than this, where a form has fewer
#: records than that. The order of the features is part of the form.
_FEW_FORMS, _FEW_RECORDS = 16, 16

#: The kinds of features, by the byte that their lists begin with.
_KINDS = {0x0a: "bytes_list", 0x12: "float_list", 0x1a: "int64_list"}
_FIRST, _SECOND = 0x0a, 0x12  # The first byte of fields of these numbers.

_DTYPES = {"bytes_list": np.dtype(object), "float_list": np.dtype(np.float32),
           "int64_list": np.dtype(np.int64)}

#: Where the values of the features of a record are. `names` is a tuple of the
#: names of all its features, `places` a dict from the name of each wanted one
#: to the list of (begin, end) of its bytes, `fixed` a list of (begin, end) of
#: the bytes that make the form.
_Form = collections.namedtuple("_Form", ["names", "places", "fixed"])


def parsed(records, features):
  """The values of records that are a `tf.train.Example` each.

  Args:
    records: list of bytes, one at least.
    features: tuple of (name, kind, number of values, one at least) of the
      features to parse, the kind as `tf.train.Feature` calls it.

  Returns:
    (list with an array of shape [records, values] for each feature; list of
    the different tuples of names of features that records have).

  Raises:
    Unreadable: some record is not written as others write it, or has other
      values; or there are many forms of them.
  """
  arrays = [npy.empty_aligned((len(records), size), _DTYPES[kind])
            for _, kind, size in features]
  lengths, left = np.array(list(map(len, records))), np.arange(len(records))
  kinds, names = {name: kind for name, kind, _ in features}, set()
  for forms in itertools.count(1):
    same = left[lengths[left] == lengths[left[0]]]
    form = _form_of(records[left[0]], kinds)
    matrix = np.frombuffer(
        b"".join([records[i] for i in same]), np.uint8).reshape(len(same), -1)
    is_alike = np.ones(len(same), bool)
    for begin, end in form.fixed:
      is_alike &= (matrix[:, begin:end] == matrix[0, begin:end]).all(axis=1)
    if not is_alike.all():
      same, matrix = same[is_alike], matrix[is_alike]
    for array, feature in zip(arrays, features):
      _take(array, same, matrix, form, feature)
    names.add(form.names)
    left = np.setdiff1d(left, same, assume_unique=True)
    if not left.size:
      return arrays, sorted(names)
    if forms >= _FEW_FORMS and (
        len(records) - left.size < forms * _FEW_RECORDS):
      raise row_layout.Unreadable("has one of many forms")


def _take(array, rows, matrix, form, feature):
  """Takes the values of a feature out of records of one form.

  Args:
    array: array of shape [all records, values], whose rows are filled.
    rows: array of int, which of them.
    matrix: array of bytes, of shape [records, bytes of each].
    form: `_Form`.
    feature: (name, kind, number of values).

  Raises:
    Unreadable: it has another number of values.
  """
  name, kind, size = feature
  places = form.places[name]
  if kind == "bytes_list":
    if len(places) != size:
      raise row_layout.Unreadable("has other values")
    for i, (begin, end) in enumerate(places):
      array[rows, i] = _texts(matrix[:, begin:end])
    return
  (begin, end), = places
  if kind == "int64_list":
    array[rows] = _whole_numbers(matrix[:, begin:end], size)
    return
  if end - begin != size * array.itemsize:
    raise row_layout.Unreadable("has other values")
  content = array.view(np.uint8)
  content[slice(None) if len(rows) == len(array) else rows] = (
      matrix[:, begin:end])


def _texts(matrix):
  """An array of objects with the bytes of each row of a matrix."""
  content, size = np.ascontiguousarray(matrix).tobytes(), matrix.shape[1]
  texts = np.empty(len(matrix), object)
  texts[:] = [content[i * size:i * size + size] for i in range(len(matrix))]
  return texts


def _whole_numbers(matrix, size):
  """The numbers in rows of bytes: of each byte seven bits, the lowest first.

  All bytes of a number but the last have the eighth bit, too.

  Args:
    matrix: array of bytes, of shape [rows, bytes].
    size: int, how many numbers each row has.

  Returns:
    array of int64, of shape [rows, size].

  Raises:
    Unreadable: a row has others.
  """
  is_last = matrix < 128
  if not is_last[:, -1:].all() or (is_last.sum(axis=1) != size).any():
    raise row_layout.Unreadable("has other values")
  lasts = np.flatnonzero(is_last)
  begins = np.append(0, lasts[:-1] + 1)
  lengths = lasts - begins + 1
  if lengths.max() > 10:
    raise row_layout.Unreadable("has no whole number")
  content = np.bitwise_and(matrix, 127).ravel()
  numbers = np.zeros(len(lasts), np.uint64)
  for i in range(lengths.max()):
    longer = np.flatnonzero(lengths > i)
    numbers[longer] |= content[begins[longer] + i].astype(
        np.uint64) << np.uint64(7 * i)
  return numbers.view(np.int64).reshape(len(matrix), size)


def _form_of(record, kinds):
  """Finds out where the values of an Example are.

  Args:
    record: bytes.
    kinds: dict from the name of each wanted feature to its kind.

  Returns:
    `_Form`.

  Raises:
    Unreadable: it is not written as `tf.train.Example` writes it, or has not
      these features.
  """
  names, places, free = [], {}, []
  (begin, end), = _fields(record, 0, len(record), heads=(_FIRST,))
  for entry in _fields(record, begin, end):
    key, value = _fields(record, *entry, heads=(_FIRST, _SECOND))
    try:
      name = record[slice(*key)].decode()
    except UnicodeDecodeError:
      raise row_layout.Unreadable("has a name that is no text") from None
    names.append(name)
    if name in kinds:
      places[name] = _values_in(record, value, kinds[name])
      free.extend(places[name])
    else:
      free.append(value)
  if len(set(names)) < len(names) or len(places) < len(kinds):
    raise row_layout.Unreadable("has other features")
  edges = [0] + [edge for place in free for edge in place] + [len(record)]
  fixed = [pair for pair in zip(edges[::2], edges[1::2]) if pair[0] < pair[1]]
  return _Form(tuple(names), places, fixed)


def _values_in(record, value, kind):
  """The (begin, end) of the values of a feature; of each one that is bytes.

  Raises:
    Unreadable: it is not of that kind.
  """
  if value[0] == value[1] or _KINDS.get(record[value[0]]) != kind:
    raise row_layout.Unreadable("has other values")
  values, = _fields(record, *value, heads=(record[value[0]],))
  places = _fields(record, *values)
  if kind != "bytes_list" and len(places) != 1:
    raise row_layout.Unreadable("has its values in several parts")
  return places


def _fields(record, begin, end, heads=None):
  """The (begin, end) of the contents of the fields in a part of a record.

  Args:
    record: bytes.
    begin, end: int, the part.
    heads: tuple of the byte that each field begins with; None for any number
      of fields with the number 1.

  Raises:
    Unreadable: there are others.
  """
  found = []
  while begin < end:
    head = _FIRST if heads is None else heads[len(found)] if (
        len(found) < len(heads)) else None
    if record[begin] != head:
      raise row_layout.Unreadable("has other fields")
    size, shift, begin = 0, 0, begin + 1
    while begin < end and record[begin] > 127 and shift < 28:
      size |= (record[begin] & 127) << shift
      shift, begin = shift + 7, begin + 1
    if begin >= end or record[begin] > 127:
      raise row_layout.Unreadable("has other fields")
    size |= record[begin] << shift
    found.append((begin + 1, begin + 1 + size))
    begin += 1 + size
  if begin != end or heads is not None and len(found) != len(heads):
    raise row_layout.Unreadable("has other fields")
  return found
