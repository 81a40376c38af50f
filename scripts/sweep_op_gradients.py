"""Finds the inputs of ops through which TensorFlow's gradient passes nothing.

  python scripts/sweep_op_gradients.py --output=1.15.json   # With TF 1.15
  python scripts/sweep_op_gradients.py --output=2.json      # With the newest
  python scripts/sweep_op_gradients.py --tables=1.15.json,2.json

Every op with a registered gradient (one that is registered as none, too) is
built by itself and differentiated by each floating input. Where tf.gradients
returns None for one, finite differences say whether the op is a smooth
function of it. The last line writes gradfeed/analysis/unpassed_inputs.py from
what several versions of TensorFlow gave.
"""

import collections
import itertools
import json
import os
import sys

from absl import app
from absl import flags
import numpy as np
import op_guesses
import op_inputs
import tensorflow.compat.v1 as tf

sys.path.insert(0, os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
# pylint: disable-next=g-import-not-at-top, wrong-import-position
from gradfeed import _tf

_OUTPUT = flags.DEFINE_string(
    "output", None, "JSON file to write: what this TensorFlow does.")
_ONLY = flags.DEFINE_list(
    "only", [], "Types of ops to try, in the place of all that are there.")
_TABLES = flags.DEFINE_list(
    "tables", [], "JSON files to write the module of: of TF 1, then of TF 2.")

_MODULE = os.path.join(
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "gradfeed",
    "analysis", "unpassed_inputs.py")

#: What is found of an input that gets no gradient.
SMOOTH, FLAT = "smooth", "flat"

_STEPS = {np.float64: (1e-4, 1e-5), np.float32: (1e-2, 3e-3)}
_MOST_GUESSES = 600

def is_candidate(op_def):
  """Whether an op may be a function from floating to any numbers."""
  return op_def is not None and (
      any(op_guesses.is_real(op_def, argument)
          for argument in op_def.input_arg))


def sweep(op_types):
  """Tries ops.

  Args:
    op_types: iterable of str.

  Returns:
    (dict from op type to a dict from the index of each input without a
    gradient to SMOOTH or FLAT; dict from each op type that could not be tried
    to the reason).
  """
  tried, untried = collections.OrderedDict(), collections.OrderedDict()
  for op_type in op_types:
    op_def = _tf.op_definition(tf.Graph(), op_type)
    if not is_candidate(op_def):
      continue
    if not hasattr(tf.raw_ops, op_type):
      untried[op_type] = "not in tf.raw_ops"
      continue
    if op_def.is_stateful:
      untried[op_type] = "gives something else at each run"
      continue
    inputs, reason = _in_child(op_type)
    if inputs is None:
      untried[op_type] = reason
    else:
      tried[op_type] = inputs
  return tried, untried


def _in_child(op_type):
  """`try_cases` in a process of its own: kernels may crash."""
  reading, writing = os.pipe()
  child = os.fork()
  if not child:
    os.close(reading)
    with os.fdopen(writing, "w") as output:
      json.dump(try_cases(op_type), output)
    os._exit(0)  # pylint: disable=protected-access
  os.close(writing)
  with os.fdopen(reading) as result:
    text = result.read()
  os.waitpid(child, 0)
  if not text:
    return None, "the process died"
  inputs, reason = json.loads(text)
  return (None if inputs is None else
          {int(i): state for i, state in inputs.items()}), reason


def try_cases(op_type):
  """Differentiates one op with all arguments that are known for it.

  Args:
    op_type: str.

  Returns:
    (dict from the index of each input without a gradient to SMOOTH or FLAT, or
    None; the reason, where it could not be built and run).
  """
  op_def = _tf.op_definition(tf.Graph(), op_type)
  cases = op_inputs.CASES.get(op_type)
  inputs, reason = None, "no arguments were found"
  for case in cases or itertools.islice(
      op_guesses.guesses(
          op_def, lambda argument: op_guesses.is_real(op_def, argument)),
      _MOST_GUESSES):
    found, reason = _try(op_type, op_def, case)
    if found is not None:
      inputs = _merged(inputs, found)
      if cases is None:
        break
  return inputs, reason


def _merged(inputs, found):
  """SMOOTH in one case is SMOOTH."""
  inputs = dict(inputs or {})
  for index, state in found.items():
    if inputs.get(index) != SMOOTH:
      inputs[index] = state
  return inputs


def _try(op_type, op_def, case):
  """(dict from index of input to SMOOTH or FLAT, or None; the reason)."""
  reason = ""
  for dtype in (np.float64, np.float32):
    try:
      found = _differentiated(op_type, op_def, case, dtype)
      if found is not None:
        return found, ""
      reason = "no finite result"
    except Exception as error:  # pylint: disable=broad-except
      # Whatever TensorFlow says of arguments that are tried.
      reason = "{}: {}".format(type(error).__name__,
                               str(error).split("\n")[0][:100])
  return None, reason


def _differentiated(op_type, op_def, case, dtype):
  """What becomes of the gradient by each floating input of one op."""
  random = np.random.RandomState(1)
  fed = []

  def tensor_of(name, value):
    if isinstance(value, op_inputs.Real):
      array = op_inputs.draw(value, random, dtype)
      fed.append((name, tf.placeholder(dtype, array.shape), array))
      return fed[-1][1]
    if isinstance(value, list) and any(
        isinstance(item, (op_inputs.Real, np.ndarray)) for item in value):
      return [tensor_of(name, item) for item in value]
    return tf.constant(value) if isinstance(value, np.ndarray) else value

  with tf.Graph().as_default() as graph, tf.Session() as session:
    names = [argument.name for argument in op_def.input_arg]
    result = getattr(tf.raw_ops, op_type)(
        **{name: tensor_of(name, case[name]) for name in sorted(
            case, key=lambda n: names.index(n) if n in names else -1)})
    op = next(op for op in reversed(graph.get_operations())
              if op.type == op_type)
    del result
    ys = [y for y in op.outputs if y.dtype.base_dtype.is_floating]
    ys = ys[:op_inputs.OUTPUTS.get(op_type)] or [
        tf.cast(y, tf.float64) for y in op.outputs
        if y.dtype.base_dtype.is_integer or y.dtype.base_dtype.is_bool]
    if not ys:
      return None
    feed = {x: value for _, x, value in fed}
    values = session.run(ys, feed)
    if not any(value.size for value in values) or not all(
        np.all(np.isfinite(value)) for value in values):
      return None
    weights = [random.uniform(0.5, 1.5, value.shape) for value in values]
    gradients = tf.gradients(
        ys, [x for _, x, _ in fed],
        grad_ys=[tf.constant(weight, y.dtype)
                 for weight, y in zip(weights, ys)])
    indices = {t.name: i for i, t in enumerate(op.inputs)}
    return {indices[x.name]: _state(session, ys, weights, feed, x, random,
                                    dtype)
            for (_, x, at), gradient in zip(fed, gradients)
            if gradient is None and at.size}


def _state(session, ys, weights, feed, x, random, dtype):
  """SMOOTH where small steps of `x` change `ys` in proportion, else FLAT."""
  at = feed[x]
  direction = random.choice([-1.0, 1.0], size=at.shape) * random.uniform(
      0.5, 1.0, at.shape)
  slopes = []
  for step in _STEPS[dtype]:
    sums = []
    for sign in (1, -1):
      values = session.run(ys, _with(
          feed, x, (at + sign * step * direction).astype(dtype)))
      if [value.shape for value in values] != [
          weight.shape for weight in weights]:
        return FLAT
      sums.append(sum(np.sum(np.float64(value) * weight)
                      for value, weight in zip(values, weights)))
    slopes.append((sums[0] - sums[1]) / (2.0 * step))
  sizes = [abs(slope) for slope in slopes]
  settled = abs(slopes[0] - slopes[1]) <= 0.1 * max(sizes)
  return SMOOTH if settled and min(sizes) > 1e-3 else FLAT


def _with(feed, x, value):
  changed = dict(feed)
  changed[x] = value
  return changed


def write_module(tables):
  """Writes the module from the results of TF 1 and of TF 2."""
  lines = [_HEAD.format(" and ".join(
      "{} ({} ops tried)".format(table["version"], len(table["tried"]))
      for table in tables))]
  for state, name, what in (
      (SMOOTH, "SMOOTH", "that the op is a smooth function of"),
      (FLAT, "FLAT", "that change the result in jumps, or not at all")):
    lines.append("\n#: Inputs {}.\n{} = {{".format(what, name))
    lines.extend(_entries(tables, state))
    lines.append("}")
  with open(_MODULE, "w", encoding="utf-8") as module:
    module.write("\n".join(lines) + "\n")


def _entries(tables, state):
  """The lines of one table."""
  op_types = sorted({op_type for table in tables
                     for op_type in table["tried"]})
  for op_type in op_types:
    each = [tuple(sorted(int(i) for i, is_state in table["tried"].get(
        op_type, {}).items() if is_state == state)) for table in tables]
    if any(each):
      yield '    "{}": {},'.format(op_type, "({}, {})".format(*map(
          _tuple, each)))


def _tuple(indices):
  return "({})".format("".join("{}, ".format(i) for i in indices).rstrip()
                       if len(indices) == 1 else
                       ", ".join(map(str, indices)))


_HEAD = '''"""Inputs of ops that TensorFlow's gradient passes nothing to.

Written by scripts/sweep_op_gradients.py: each op with a registered gradient
was built and differentiated, and compared with finite differences, in
TensorFlow {}.
Both tables have, for an op type, the indices of inputs in TF 1 and in TF 2.
"""'''


def main(unused_argv):
  if _TABLES.value:
    tables = []
    for path in _TABLES.value:
      with open(path, encoding="utf-8") as table:
        tables.append(json.load(table))
    write_module(tables)
    return
  tried, untried = sweep(_ONLY.value or _tf.registered_types())
  result = {"version": tf.__version__,
            "tried": {op_type: {str(i): state for i, state in inputs.items()}
                      for op_type, inputs in tried.items()},
            "untried": untried}
  for op_type, inputs in tried.items():
    for index, state in sorted(inputs.items()):
      print("{:<45} input {}: {}".format(op_type, index, state))
  for op_type, reason in untried.items():
    print("{:<45} not tried: {}".format(op_type, reason))
  print("{} ops tried, {} not.".format(len(tried), len(untried)))
  if _OUTPUT.value:
    with open(_OUTPUT.value, "w", encoding="utf-8") as output:
      json.dump(result, output, indent=1, sort_keys=True)


if __name__ == "__main__":
  tf.disable_v2_behavior()
  tf.logging.set_verbosity(tf.logging.FATAL)
  app.run(main)
