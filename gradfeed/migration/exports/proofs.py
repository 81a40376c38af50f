"""Holds a SavedModel that was written against the function it was made of."""

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed import errors
from gradfeed import numeric_comparison
from gradfeed.graph import tensors

#: How many rows drawn points have, where an axis may have any length.
_ROWS = (2, 3)
#: Ranges that floating values are drawn from, the next one where f fails.
_RANGES = ((-1.0, 1.0), (0.1, 0.9))

#: Runs in which random numbers may be drawn that happen to be the same; of a
#: dropout of few elements two runs often are.
_MOST_DRAWS = 10


class Point:
  """Values of the inputs, and what the function gives there.

  Attributes:
    arrays: list of arrays, one for each of the inputs of the program.
    results: list of arrays, one for each of its results.
    is_drawn: list of bool, whether each result is another one at each run.
  """

  def __init__(self, program, arrays, draws):
    self.arrays = arrays
    self.results = list(program.results_at(arrays))
    self.is_drawn = [False] * len(self.results)
    for _ in range(_MOST_DRAWS if draws else 0):
      again = program.results_at(arrays)
      self.is_drawn = [
          is_drawn or not numeric_comparison.has_same_bits(a, b)
          for is_drawn, a, b in zip(self.is_drawn, self.results, again)]
      if all(self.is_drawn):
        break
    outputs = program.outputs_at(arrays)
    self.results[:len(outputs)] = outputs


def given_points(program, points, draws):
  """The `Point`s that the caller gave.

  Args:
    program: `programs.Program`.
    draws: bool; whether the program may draw random numbers.
    points: list with the values of one call each: a tuple with one for each
      input, or the value of the only one.

  Raises:
    ArgumentError: `points` is no list, or empty.
    FeedError: a value does not fit.
  """
  if not isinstance(points, (list, tuple)) or not points:
    raise errors.ArgumentError(
        "points is a {}.".format(
            type(points).__name__ if not isinstance(points, (list, tuple)) else
            "list without a point"),
        "It is a list: for each point the value of the input, or a tuple with "
        "one for each of several inputs.",
        "Pass points=[x_t], or leave it out, and points are drawn.")
  found = []
  for point in points:
    values = point if isinstance(point, tuple) else (point,)
    found.append(Point(program, program.arrays(values), draws))
  return found


def drawn_points(program, draws):
  """`Point`s that are drawn, of two sizes where the inputs may have any.

  The arguments are those of `given_points`.

  Raises:
    ArgumentError: the function cannot be evaluated at them.
  """
  is_free = any(_is_free(given.component) for given in program.inputs)
  for low, high in _RANGES:
    points, error = [], None
    for rows in _ROWS if is_free else _ROWS[:1]:
      random = np.random.RandomState(rows)
      try:
        points.append(Point(program, [
            _drawn(given, rows, low, high, random)
            for given in program.inputs], draws))
      except (errors.FeedError, tf.errors.OpError) as caught:
        error = caught
    if error is None:
      return points
  raise errors.ArgumentError(
      "The function cannot be evaluated at points that are drawn.",
      "At random values of {}: {}".format(
          tensors.describe_all(given.component for given in program.inputs),
          errors.first_line(error)),
      "Pass points that it is used at: gf.export(f, path, points=[x_t]).")


def _is_free(component):
  """Whether an axis of a `tensors.Dense` may have any length."""
  return component.shape.ndims is None or None in (
      tf.TensorShape(component.shape).as_list())


def _drawn(given, rows, low, high, random):
  """A value for a `programs.Input`."""
  component = given.component
  shape = component.shape
  sizes = ([rows] if shape.ndims is None else
           [rows if size is None else size
            for size in tf.TensorShape(shape).as_list()])
  dtype = component.dtype
  if dtype == tf.string:
    return np.full(sizes, b"", object)
  if dtype.is_floating or dtype.is_complex:
    return np.asarray(random.uniform(low, high, sizes)).astype(
        dtype.as_numpy_dtype)
  return random.randint(0, 2, sizes).astype(dtype.as_numpy_dtype)


def check(directory, program, points, tolerances):
  """Reads a SavedModel in a session of its own, and compares it.

  Args:
    directory: str.
    program: `programs.Program`.
    points: list of `Point`.
    tolerances: list with how far each result of the program may be off, in
      units of its size; of what is drawn at random the shape and the dtype
      count alone.

  Raises:
    ModelFileError: it gives something else; names the signature and output.
  """
  graph = tf.Graph()
  with graph.as_default(), _tf.Session(graph=graph) as session:
    meta_graph = _tf.SavedModelLoader(directory).load(
        session, [tf.saved_model.SERVING])
    for point in points:
      for kind, outputs in program.signatures.items():
        signature = meta_graph.signature_def[kind]
        found = _tf.session_run(
            session, {output.name: signature.outputs[output.name].name
                      for output in outputs},
            {signature.inputs[given.name].name: array
             for given, array in zip(program.inputs, point.arrays)})
        for output in outputs:
          _check_output(kind, output, point, found[output.name],
                        max(tolerances[i] for i in output.indices))


def _check_output(kind, output, point, found, tolerance):
  """Compares one output of a signature at one point."""
  parts = [np.asarray(point.results[i]) for i in output.indices]
  expected = (parts[0] if len(parts) == 1 else
              np.concatenate(parts, output.axis))
  found = np.asarray(found)
  is_drawn = any(point.is_drawn[i] for i in output.indices)
  if expected.dtype == found.dtype and expected.shape == found.shape and (
      is_drawn or _is_same(expected, found, tolerance)):
    return
  raise errors.ModelFileError(
      "What was written does not give what the function gives.",
      "Read back, output '{}' of signature '{}' is {}; the function gives "
      "{}.".format(output.name, kind, _short(found), _short(expected)),
      "Nothing was left at the path. If the function gives the same each time "
      "at the same values, this is a defect of gradfeed: please report it.")


def _is_same(expected, found, tolerance):
  if expected.dtype.kind not in "fcV":
    return np.array_equal(expected, found)
  if expected.dtype.kind == "V":  # bfloat16
    expected, found = expected.astype(np.float32), found.astype(np.float32)
  return numeric_comparison.is_within(expected, found, tolerance)


def _short(array):
  text = np.array2string(array.reshape(-1)[:4], precision=6)
  return "{} {}, {}".format(
      array.dtype, tensors.format_shape(array.shape), text)
