"""Evaluates functions of one row for many: in a batch, or in several threads.

In a graph whose batch is fixed to 1 a function is evaluated row by row, though
TensorFlow could do hundreds at once for little more than the price of one.
`rebatched` makes a function of many rows of it, where one of the two rewritings
of `batch_size` succeeds, and where the numbers show that it gives what the
function gives row by row. `rebatched_loops` does so where a state of one row is
carried through loops, which takes longer. Where neither does, `one_by_one`
makes use of more than one processor.
"""

import concurrent.futures
import contextlib
import functools
import os
import re

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.graph import cache
from gradfeed.graph import effects
from gradfeed.graph import nest
from gradfeed.graph import op_types
from gradfeed.graph import traversal
from gradfeed import numeric_comparison
from gradfeed.rewriting import batch_size
from gradfeed.rewriting.rows import loops
from gradfeed.streaming.formats import row_layout

#: How the value of an input for one row is made of its values for all rows: it
#: is the row itself (BARE); or it is the same for all (SHARED). With anything
#: else (the "one" and "many" of `row_layout.batch_form_of`) it is the row with
#: the axis of the batch.
BARE, ONE, SHARED = "bare", "one", "shared"

#: Ops that may give another value at each run.
_DIFFERING = re.compile("|".join(
    [op_types.RANDOM.pattern, op_types.WAITING.pattern, "PyFunc"]))

#: What makes tensors for many rows of those for one, the better one first.
_REWRITES = (batch_size.enlarge, batch_size.repeat)
_MOST_THREADS = 8

#: How many ops a function of many rows may have whose loops are unrolled.
MOST_OPS = 20000

#: Groups of calls for each thread, so that none ends long after the others.
_GROUPS = 8


def rebatched(f, values, forms=None):
  """Makes a function of many rows that gives what `f` gives for each of them.

  It is in the graph and the session of `f`, shares the variables with it, holds
  the same values, and adds ops the first time only. It was evaluated at
  `values`, and gave what `f` gives row by row; see `prove`.

  Args:
    f: `functions.Function`.
    values: list with an array for each input, as the result takes them, of some
      rows that differ: two at least, better are some from all over the data.
    forms: list with "bare", "one", "many" or "shared" for each input, as
      `row_layout.batch_form_of` gives them. None: an input whose first axis is
      1, or of any size, has rows along it, and the value of any other is
      shared.

  Returns:
    `Rebatched`; or None where no rewriting gives the same numbers, or where
    ops between the inputs and the outputs give another value at each run. No
    error is raised: what `f` raises for one row says better what is wrong.
  """
  return _first_proven(f, values, forms, _REWRITES)


def rebatched_loops(f, values, forms=None, most_ops=MOST_OPS):
  """As `rebatched`, for a function that needs loops, by unrolling them.

  Args:
    f, values, forms: as in `rebatched`.
    most_ops: int, how many ops there may be once the loops are unrolled: that
      of a loop of 25 turns and its gradient are 1,500, which take a second.

  Returns:
    `Rebatched`; or None, also where it is not known before a run how often a
    loop turns, or where it does more than to compute.
  """
  return _first_proven(f, values, forms, [
      functools.partial(loops.enlarge_loops, most_ops=most_ops)])


def _first_proven(f, values, forms, rewrites):
  """The function that the first of `rewrites` makes which `prove` accepts."""
  for rewrite in rewrites:
    try:
      batched = _build(f, forms or list(map(_form_of, f.inputs)), rewrite)
    except Exception:  # pylint: disable=broad-except
      continue  # A closed graph, say, or an input that has no effect.
    if batched is not None and prove(batched, f, values):
      return batched
  return None


def _form_of(leaf):
  """The form of the values of an input, from its static shape."""
  dims = leaf.shape.as_list() if leaf.shape.ndims else [0]
  return ONE if dims[0] in (1, None) else SHARED


class Rebatched:
  """A function of many rows, made of a function of one row.

  Attributes:
    f: `functions.Function` of one row.
    function: `functions.Function` of many rows: each input that has rows is of
      shape [None, ...], and so is each output. A result of `f` whose static
      shape begins with 1 has its rows in the place of that axis, any other has
      one more, before its own.
    forms: list of str, for each input.
    depends: list of bool, for each output: whether it depends on a row.
  """

  def __init__(self, f, function, forms, depends):
    self.f = f
    self.function = function
    self.forms = forms
    self.depends = depends

  def __call__(self, *values):
    """Evaluates `function`, which takes the structure of the inputs of `f`."""
    return self.function(*values)

  def row(self, values, i):
    """The arguments of `f` for row `i` of `values`, arrays for all inputs."""
    return self.f.arguments([
        value if form == SHARED else value[i] if form == BARE else
        value[i:i + 1] for value, form in zip(values, self.forms)])


def stacked(f, results):
  """Stacks the results of `f` for some rows, as one call for all gives them.

  Args:
    f: `functions.Function` of one row.
    results: list with what `f` returned for each row, one at least.

  Returns:
    list with an array for each output.
  """
  values_of_outputs = zip(*map(nest.flatten, results))
  return [np.stack([row_layout.as_array(
      value[0] if batch_size.is_one_row(output) else value)
                    for value in values])
          for output, values in zip(f.outputs, values_of_outputs)]


def _build(f, forms, rewrite):
  """Makes the function of many rows by one rewriting, not yet proven.

  Args:
    f, forms: as in `rebatched`.
    rewrite: function of the graph, the results and the sources, as
      `batch_size.enlarge` is.

  Returns:
    `Rebatched`, with the same ops on every call; or None.
  """
  ends = f.ends()
  if ends is None:
    return None
  targets, results = ends
  if targets.count(None) == len(targets):  # The same for each row.
    targets = [f.inputs[0].tensor] + targets[1:]
  fed_with_axis = [(target, form != BARE)
                   for target, form in zip(targets, forms)
                   if target is not None and form != SHARED]
  fed = [target for target, _ in fed_with_axis]
  ops = traversal.ancestors(results, {target.name for target in fed})
  if not fed or f.needs or any(
      _DIFFERING.search(op_type)
      for _, op_type in effects.op_types_of_run(ops)):
    return None
  sources = _sources(f.graph, fed_with_axis)
  outputs = _rewritten(f.graph, rewrite, results, sources)
  if outputs is None:
    return None
  rows = {source.tensor.name: source.rows for source in sources}
  inputs = [leaf.tensor if target is None else rows.get(
      target.name, target) for leaf, target in zip(f.inputs, targets)]
  return Rebatched(f, f.between(inputs, outputs), forms, [
      _depends(result, fed) for result in results])


def _sources(graph, fed_with_axis):
  """The sources of rows for the tensors that are fed; the same on every call.

  Args:
    graph: `tf.Graph`.
    fed_with_axis: list of (tensor, bool, whether it has an axis for rows).

  Returns:
    list of `batch_size.Source`.
  """

  def build():
    cache.check_not_finalized(graph, "A larger batch")
    with _tf.building(graph):
      return [batch_size.Source(*pair) for pair in fed_with_axis]

  return cache.cached(graph, ("rows",) + tuple(
      (tensor.name, has_axis) for tensor, has_axis in fed_with_axis), build)


def _rewritten(graph, rewrite, results, sources):
  """The tensors for many rows that a rewriting makes of `results`, or None.

  They are built once; a rewriting that fails is not tried again.
  """

  def build():
    cache.check_not_finalized(graph, "A larger batch")
    with _tf.building(graph):
      try:
        return rewrite(graph, results, sources),
      except Exception:  # pylint: disable=broad-except
        return None,  # Not tried again.

  name = getattr(rewrite, "func", rewrite).__name__
  outputs, = cache.cached(graph, (
      "rows", name, getattr(rewrite, "keywords", {}).get("most_ops"),
      tuple(t.name for t in results),
      tuple(source.rows.name for source in sources)), build)
  return outputs


def _depends(result, fed):
  """Whether `result` is computed from one of the tensors that are fed."""
  ops = traversal.ancestors([result])
  return any(t.op.name in ops for t in fed)


def prove(batched, f, values):
  """Compares the results of a batch of rows with those of the rows one by one.

  All rows are evaluated by `f` one by one; then together; and the first two
  once more in the other order, in a batch of another size: results that are
  right by chance for one size of the batch, or for one order, are wrong for the
  other. Rounding is allowed for. Rows that all have the same results prove
  nothing, as a function that mixes rows gives these results too.

  Args:
    batched: `Rebatched`.
    f: `functions.Function` of one row.
    values: list with an array for each input, of two rows at least, which
      differ.

  Returns:
    bool, whether they agree; False as well where an evaluation fails.
  """
  try:
    counts = {len(value) for value, form in zip(values, batched.forms)
              if form != SHARED}
    if len(counts) != 1 or min(counts) < 2:
      return False
    count, = counts
    expected = stacked(f, [f(*batched.row(values, i)) for i in range(count)])
    return (_have_different_rows(expected, batched.depends) and
            _agrees(batched, values, np.arange(count), expected) and
            _agrees(batched, values, np.array(
                [1, 0] if count > 2 else [1, 0, 1]), expected))
  except Exception:  # pylint: disable=broad-except
    return False  # The caller gets the error again, if a row is the reason.


def _have_different_rows(results, depends):
  """Whether results that depend on a row differ from row to row."""
  return all(_differ(result) for result, depending in zip(results, depends)
             if depending)


def _differ(rows):
  """Whether one of `rows` is not the first one, where both are finite.

  That is not `numeric_comparison.is_close`, to which NaN is equal to NaN: rows
  that are all NaN would look right whatever a batch makes of them.
  """
  if rows.dtype.kind in "fc":  # NaN differs from NaN, and tells nothing.
    rows = np.where(np.isfinite(rows), rows, 0)
  return not all(np.array_equal(row, rows[0]) for row in rows[1:])


def _agrees(batched, values, order, expected):
  """Whether a batch of some rows gives what is expected.

  Args:
    batched: `Rebatched`.
    values: list with an array for each input.
    order: array of int, the rows of the batch.
    expected: list with an array for each output, of all rows.
  """
  results = nest.flatten(batched(*batched.f.arguments([
      value if form == SHARED else np.asarray(value)[order]
      for value, form in zip(values, batched.forms)])))
  return all(
      result.dtype == rows.dtype and
      numeric_comparison.is_close(result, rows[order])
      for result, rows in zip(results, expected))


def one_by_one(f, calls, threads=None):
  """Evaluates `f` at one row after the other, from several threads.

  Args:
    f: `functions.Function`, or a function that calls one.
    calls: list with the tuple of the arguments of each call.
    threads: int, how many; None for one for each processor, up to 8.

  Returns:
    list of what `f` returns, in the order of `calls`.

  Raises:
    The error of the first of `calls` that has one, in their order.
  """
  threads = threads or min(os.cpu_count() or 1, _MOST_THREADS)
  session = tf.get_default_session()  # A thread has none of its own.

  def evaluate(group):
    with contextlib.ExitStack() as stack:
      if session is not None:
        stack.enter_context(session.as_default())
      return [f(*call) for call in group]

  size = max(1, -(-len(calls) // (threads * _GROUPS)))
  if threads == 1 or len(calls) <= size:
    return evaluate(calls)
  pool = concurrent.futures.ThreadPoolExecutor(threads)
  try:
    groups = [calls[i:i + size] for i in range(0, len(calls), size)]
    return [result for results in pool.map(evaluate, groups)
            for result in results]
  finally:
    pool.shutdown()
