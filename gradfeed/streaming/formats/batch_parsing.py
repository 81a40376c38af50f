"""TensorFlow's kernels that parse many rows at once, in graphs of their own.

Nothing of them is in a graph, a session or the default graph of the user's.
What a kernel refuses is read row by row, which tells the row and the reason.
"""

import os
import threading
import weakref

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.streaming.formats import row_layout

#: Parts of a block whose texts are parsed side by side.
_PARTS = min(os.cpu_count() or 1, 8)

#: The kinds of features of an Example: the type of the list, and its dtype.
_LISTS = {"float_list": ("FloatList", tf.float32),
          "int64_list": ("Int64List", tf.int64),
          "bytes_list": ("BytesList", tf.string)}

#: Programs that some reader holds: the shards of a file have one for all.
_programs = weakref.WeakValueDictionary()
_lock = threading.Lock()


class _Program:
  """A graph, and a session on the CPU, that parse blocks of rows."""

  def __init__(self, build):
    """Builds the graph.

    Args:
      build: function that adds ops to the default graph and returns the
        placeholder of the rows and the list of what is parsed of them.
    """
    graph = tf.Graph()
    with graph.as_default():
      rows, parsed = build()
    session = _tf.plain_session(graph)
    self._call = _tf.make_callable(
        session, [rows.name], [t.name for t in parsed], [],
        on_caller_thread=False)

  def __call__(self, rows):
    """Parses rows.

    Args:
      rows: list of bytes.

    Returns:
      list of arrays.

    Raises:
      Unreadable: some row is not as the others are.
    """
    array = np.empty(len(rows), object)
    array[:] = rows
    try:
      return self._call([array])
    except tf.errors.OpError:
      raise row_layout.Unreadable("is refused") from None


def _program(build, *spec):
  """The program that `build(*spec)` describes; one as long as it is held."""
  key = (build.__name__,) + spec
  with _lock:
    program = _programs.get(key)
    if program is None:
      program = _programs[key] = _Program(lambda: build(*spec))
    return program


def columns_program(width, inputs):
  """Makes what parses lines of comma-separated texts without quotes.

  Args:
    width: int, how many texts each line has.
    inputs: tuple with (tuple of the numbers of the columns, whether they are
      texts) for each input.

  Returns:
    function from a list of lines, UTF-8 without their ends, to a list with an
    array of shape [lines, columns] for each input, of float64 or of bytes. It
    raises `Unreadable` where a line has another width, or what is no number.
    It takes more than Python does for numbers: hexadecimal ones, "nan(1)", and
    blanks for 0.
  """
  return _program(_build_columns, width, inputs)


def _build_columns(width, inputs):
  lines = tf.placeholder(tf.string, [None])
  count, widths, parts = tf.shape(lines)[0], [], []
  for i in range(_PARTS):
    part = lines[count * i // _PARTS:count * (i + 1) // _PARTS]
    split = tf.string_split(part, ",", skip_empty=False)
    widths.append(split.dense_shape[1])
    texts = tf.reshape(split.values, [tf.shape(part)[0], width])
    parts.append([_parsed(texts, width, *each) for each in inputs])
  # Where the sum of the widths is right, and none is larger, all are.
  check = tf.Assert(tf.reduce_max(tf.stack(widths)) <= width, [0])
  with tf.control_dependencies([check]):
    return lines, [tf.concat(values, 0) for values in zip(*parts)]


def _parsed(texts, width, columns, is_text):
  """The values of one input, from a tensor of texts."""
  begin, end = columns[0], columns[-1] + 1
  if columns != tuple(range(width)):
    texts = texts[:, begin:end] if columns == tuple(range(begin, end)) else (
        tf.gather(texts, columns, axis=1))
  return texts if is_text else tf.strings.to_number(texts, tf.float64)


def examples_program(features):
  """Makes what parses records that are a `tf.train.Example` each.

  Args:
    features: tuple of (name, kind, number of values) of the features to parse,
      the kind as `tf.train.Feature` calls it.

  Returns:
    function from a list of records to (list with an array of shape [records,
    values] for each feature; list of the different tuples of names of features
    that there are, which are to be looked at first). It raises `Unreadable`
    where a record is not of that form.
  """
  program = _program(_build_examples, features)

  def parse(records):
    results = program(records)
    parsed = []
    for i, (_, kind, size) in enumerate(features):
      values, kinds, sizes = results[2 + 3 * i:5 + 3 * i]
      if (kinds != [kind == each for each in _LISTS]).any() or (
          sizes != size).any():
        raise row_layout.Unreadable("has other values")
      parsed.append(values)
    return parsed, _different_names(*results[:2])

  return parse


def _build_examples(features):
  """Unpacks one message after the other.

  `tf.io.parse_example` is not used: the message of its error has the record in
  it, at whose bytes TensorFlow 1.15 crashes.
  """
  records = tf.placeholder(tf.string, [None])
  maps = _fields(records, "Example", features=tf.string)
  entries = _fields(maps.values[0], "Features", feature=tf.string)
  pairs = _fields(entries.values[0], "Features.FeatureEntry", key=tf.string,
                  value=tf.string)
  names = pairs.values[0]
  fetches = [entries.sizes[..., 0], names]
  for name, kind, _ in features:
    feature = tf.boolean_mask(pairs.values[1], tf.equal(names, name))
    lists = _fields(feature, "Feature", **{each: tf.string for each in _LISTS})
    type_name, dtype = _LISTS[kind]
    values = _fields(lists.values[list(_LISTS).index(kind)][:, 0], type_name,
                     value=dtype)
    fetches += [values.values[0], lists.sizes, values.sizes]
  return records, fetches


def _fields(messages, type_name, **dtypes):
  """The fields of messages, with the sizes and values of each."""
  return tf.io.decode_proto(messages, "tensorflow." + type_name, list(dtypes),
                            list(dtypes.values()))


def _different_names(counts, names):
  """The different tuples of names of features that the records have.

  Args:
    counts: array of shape [records, 1], how many features each has.
    names: array of bytes, of shape [records, 1, the most features, 1].

  Raises:
    Unreadable: a record is not written as `tf.train.Example` writes it.
  """
  if names.shape[1::2] != (1, 1):
    raise row_layout.Unreadable("has its features in several parts")
  different = {tuple(row[:count]) for row, (count,) in zip(
      names[:, 0, :, 0].tolist(), counts.tolist())}
  try:
    different = [tuple(name.decode() for name in row) for row in different]
  except UnicodeDecodeError:
    raise row_layout.Unreadable("has a name that is no text") from None
  if any(len(set(row)) < len(row) for row in different):
    raise row_layout.Unreadable("has two features of one name")
  return different
