"""What `python scripts/benchmark.py derivatives` takes derivatives of."""

import collections

import numpy as np

from benchmarks import workers

#: For each task: the verb, sizes of the layers, what is between the layers,
#: and the rows of x. Without layers: elements of x, of which `residual` is
#: differentiated.
_TASKS = collections.OrderedDict([
    ("jacobian_1000", ("jacobian", (784, 512, 1000), "relu", 1)),
    ("wide_jacobian", ("wide_jacobian", (3, 64, 5000), "tanh", 1)),
    ("sparse_jacobian", ("sparse_jacobian", (10000,), None, 1)),
    ("dense_jacobian", ("dense_jacobian", (2500,), None, 1)),
    ("jacobian_10", ("jacobian", (784, 128, 128, 10), "tanh", 1)),
    ("batch_jacobian", ("batch_jacobian", (784, 512, 512, 10), "tanh", 32)),
    ("jvp", ("jvp", (784, 128, 128, 10), "tanh", 1)),
    ("hessian", ("hessian", (784, 128, 128, 10), "tanh", 1)),
    ("hvp", ("hvp", (784, 128, 128, 10), "tanh", 1)),
    ("per_example_gradient",
     ("per_example_gradient", (784, 128, 128, 10), "tanh", 256)),
])

#: What each verb is a function of, and what it computes.
_VERBS = {
    "jacobian": (["x"], "logits by x"),
    "wide_jacobian": (["x"], "logits by x, of few elements"),
    "sparse_jacobian": (["x"], "a residual by x, three diagonals that are "
                        "stated"),
    "dense_jacobian": (["x"], "a residual by x, all of it"),
    "batch_jacobian": (["x"], "logits of each row by its x"),
    "jvp": (["x", "v"], "logits by x, times v"),
    "hessian": (["x", "labels"], "cross entropy by x, twice"),
    "hvp": (["x", "labels", "v"], "cross entropy by x, twice, times v"),
    "per_example_gradient": (["x", "labels"], "cross entropy of each row by "
                             "all weights"),
}

#: More classes than this are not built by a loop, unless --whole asks for it.
_LOOPED = 50

#: A batch stays one that can be mixed up, however small the rest becomes.
_SMALLEST_BATCH = 3


class Task(collections.namedtuple(
    "Task", ["name", "verb", "sizes", "activation", "batch", "step"])):
  """What to differentiate.

  Attributes:
    name: str, as `--only` takes it.
    verb: str, a key of `_VERBS` and the name of a method of a library.
    sizes: tuple of int, the sizes of the layers.
    activation: str, "relu" or "tanh"; None without layers.
    batch: int, rows of x.
    step: int; a loop over the classes builds each `step`-th alone.
  """

  def title(self):
    if self.activation is None:
      return "{}: {}; Burgers' equation, {} points".format(
          self.name, _VERBS[self.verb][1], self.sizes[0])
    return "{}: {}; {} {} network, {} {} of x".format(
        self.name, _VERBS[self.verb][1], "-".join(map(str, self.sizes)),
        self.activation, self.batch, "row" if self.batch == 1 else "rows")

  def inputs(self):
    """What the derivative is a function of: list of "x", "labels", "v"."""
    return _VERBS[self.verb][0]

  def points(self, seed):
    """[a value for each input], the same in every process."""
    random = np.random.RandomState(seed + 1)
    points = []
    for x, labels in workers.points_of(self.sizes, self.batch, seed):
      v = random.normal(size=x.shape).astype("f")
      values = {"x": x, "labels": labels, "v": v}
      points.append([values[name] for name in self.inputs()])
    return points

  def rows(self, timing, built):
    """What the table says of one library.

    Args:
      timing: `libraries.Timing`.
      built: dict, what building took.

    Returns:
      list with a row; and, for a library that builds a part of the classes,
      with a row of what all of them would take, were each like those. Building
      takes more: tf.gradients takes longer the more ops the graph has.
    """
    row = collections.OrderedDict([("library", timing.name)])
    row.update((key, built[key])
               for key in ("build s", "first call s", "ops added"))
    row.update([
        ("median ms", timing.median * 1e3), ("p10 ms", timing.p10 * 1e3),
        ("x gradfeed", timing.ratio), ("max difference", timing.difference),
        ("agrees", timing.agrees)])
    if timing.name != "session_run" or self.step == 1:
      return [row]
    classes = self.sizes[-1]
    taken = -(-classes // self.step)
    whole = collections.OrderedDict.fromkeys(row)
    for key in ("build s", "ops added", "median ms", "x gradfeed"):
      whole[key] = row[key] * classes / taken
    row["library"] += ", {} of {} classes".format(taken, classes)
    row["x gradfeed"] = None
    whole["library"] = "session_run, all {}, in proportion or more".format(
        classes)
    return [row, whole]


def residual(around, viscosity=0.01):
  """u u_x - viscosity u_xx on points between 0 and 1, by central differences.

  Args:
    around: array or tensor of any library, shape [points + 2]: u, with its
      values at both ends.
    viscosity: float.
  """
  left, u, right = around[:-2], around[1:-1], around[2:]
  points = int(u.shape[0])
  return u * (right - left) * (points / 2.0) - (
      viscosity * points ** 2) * (right - 2 * u + left)


def diagonals(points):
  """The rows and columns of the three diagonals, row by row."""
  rows = np.repeat(np.arange(points), 3)
  columns = rows + np.tile([-1, 0, 1], points)
  inside = (columns >= 0) & (columns < points)
  return rows[inside], columns[inside]


def tasks(shrink, whole):
  """The tasks by name.

  Args:
    shrink: int, what all sizes are divided by.
    whole: bool, whether a loop over the classes takes all of them.

  Returns:
    dict from str to `Task`.
  """
  result = collections.OrderedDict()
  for name, (verb, sizes, activation, batch) in _TASKS.items():
    sizes = tuple(max(2, size // shrink) for size in sizes)
    takes_part = verb == "jacobian" and not whole
    result[name] = Task(
        name, verb, sizes, activation,
        min(batch, max(_SMALLEST_BATCH, batch // shrink)),
        -(-sizes[-1] // _LOOPED) if takes_part else 1)
  return result
