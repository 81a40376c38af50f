"""Points to evaluate a function at: rows of files and of arrays."""

import os

import numpy as np

from gradfeed import errors
from gradfeed import tensors

_SAMPLED_ROWS = 64


class Points:
  """The arrays of points, one for each input of a function.

  Attributes:
    inputs: list of the inputs.
    arrays: list of arrays, of one length.
    ways: list of str, how a row of each becomes a value; see `way_of`.
    is_batch: bool, whether rows are fed many at a time.
  """

  def __init__(self, points, f):
    given = points if isinstance(points, (list, tuple)) else [points]
    self.inputs = f.inputs
    if len(given) != len(self.inputs):
      raise errors.FeedError(
          "{} arrays of points for {} inputs.".format(
              len(given), len(self.inputs)),
          "The inputs are {}.".format(tensors.describe_all(self.inputs)),
          "Pass one array or file for each, in this order.")
    self.arrays = [_array(one) for one in given]
    self.ways = [way_of(array.shape, leaf)
                 for leaf, array in zip(self.inputs, self.arrays)]
    self.is_batch = all(way == "many" for way in self.ways)
    if len({len(array) for array in self.arrays}) > 1:
      raise errors.FeedError(
          "The points have different numbers of rows: {}.".format(
              ", ".join(str(len(array)) for array in self.arrays)),
          "Row i of each belongs to point i.", "Pass arrays of one length.")

  def __len__(self):
    return len(self.arrays[0])

  def samples(self):
    """list of bytes that tell these points from others, most probably."""
    parts = []
    for array in self.arrays:
      parts.append(repr((array.shape, array.dtype.str)).encode())
      places = np.unique(np.linspace(
          0, max(len(array) - 1, 0), _SAMPLED_ROWS).astype(np.int64))
      parts.extend(np.ascontiguousarray(array[i]).tobytes() for i in places
                   if len(array))
    return parts

  def read(self, start, end):
    return [_copied(array, start, end) for array in self.arrays]


def _copied(array, start, end):
  """The rows of an array. Mapped pages would stay in memory when read."""
  if not isinstance(array, np.memmap) or not array.flags.c_contiguous:
    return np.array(array[start:end])
  shape = (max(0, min(end, len(array)) - start),) + array.shape[1:]
  row = array.dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
  with open(array.filename, "rb") as source:
    source.seek(array.offset + start * row)
    return np.fromfile(source, array.dtype, int(np.prod(
        shape, dtype=np.int64))).reshape(shape)


def way_of(shape, leaf):
  """How a row of points becomes a value of an input.

  Args:
    shape: tuple, of all the points.
    leaf: the input, with a name, dtype and shape.

  Returns:
    "bare" where a row is a value; "many" where it is a row of a batch of any
    size; "one" where it is the only row of a batch.

  Raises:
    FeedError: it is neither.
  """
  row = tuple(shape[1:])
  if shape:
    if leaf.shape.is_compatible_with(row):
      return "bare"
    if leaf.shape.ndims and leaf.shape.is_compatible_with((1,) + row):
      return "one" if leaf.shape.as_list()[0] == 1 else "many"
  allowed = ["[N] + {}".format(tensors.format_shape(leaf.shape))]
  if leaf.shape.ndims and leaf.shape[:1].is_compatible_with([1]):
    allowed.append("[N] + {}".format(tensors.format_shape(leaf.shape[1:])))
  raise errors.FeedError(
      "The points have the shape {}, of which no row is a value of {}.".format(
          tensors.format_shape(shape), tensors.describe(leaf)),
      "Each row is one value, with or without the axis of the batch.",
      "Pass points of shape {}.".format(" or ".join(allowed)))


def _array(points):
  return (load_points(os.fspath(points))
          if isinstance(points, (str, os.PathLike)) else np.asarray(points))


def load_points(path):
  """The array in the file, mapped and not read.

  Raises:
    ModelFileError: the file is not a .npy file of numbers.
  """
  with open(path, "rb") as source:
    begin = source.read(len(np.lib.format.MAGIC_PREFIX))
  if begin != np.lib.format.MAGIC_PREFIX:
    raise _not_points(
        path, "It is an .npz file, of several arrays." if begin[:2] == b"PK"
        else "It does not begin as a .npy file does.")
  try:
    points = np.load(path, mmap_mode="r", allow_pickle=False)
  except (ValueError, EOFError) as error:
    raise _not_points(path, "{}.".format(
        str(error).split("\n")[0].rstrip("."))) from None
  if points.dtype.kind not in "iufcb":
    raise _not_points(path, "It holds {}.".format(points.dtype))
  return points


def _not_points(path, why):
  return errors.ModelFileError(
      "'{}' is not a NumPy file of numbers.".format(path), why,
      "Write it with numpy.save('points.npy', points).")
