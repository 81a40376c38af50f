"""What is refused before an op is built: checks of one `products.Product`.

Each takes the product and its `paths.Trace`.
"""

from gradfeed import _tf
from gradfeed import errors
from gradfeed import orders
from gradfeed import reasons
from gradfeed import tensors
from gradfeed import unknown_gradients
from gradfeed import wrongs


def check(product, trace, strict):
  """Refuses what has no gradient, or one that would be wrong.

  Args:
    product: `products.Product`.
    trace: its `paths.Trace`.
    strict: bool; whether an x that no y depends on is refused.

  Raises:
    DisconnectedError, MissingGradientError, UnsupportedGraphError.
  """
  numbers = [y for y in product.ys if not _tf.is_number(y.dtype)]
  if numbers and (strict or len(numbers) < len(product.ys)):
    refuse(product, product.xs, trace)
  if trace.second_order:
    raise errors.UnsupportedGraphError(
        product.purpose("No second-order gradient") + ".",
        "TensorFlow has none for a while loop of control flow v1: what its "
        "gradient remembers of each turn ('{}') passes no gradient on, and a "
        "part of the result would be lost without a word.".format(
            trace.second_order[0].name),
        "Build the loop with control flow v2 (tf.enable_control_flow_v2() "
        "before it is built), or unroll it.")
  lost = [x for x in product.xs if x.name not in trace.tensors]
  if strict and lost:
    refuse(product, lost, trace)
  _check_stops(product, trace)
  unknown_gradients.check(trace.path.values())
  if trace.missing:
    op = trace.missing[0]
    raise errors.MissingGradientError(
        product.purpose("No gradient") + ".",
        "TensorFlow has no gradient for {} '{}', which lies between "
        "them.".format(op.type, op.name),
        "Hold its output constant (stop_gradients=[{}]) or register a "
        "gradient with tf.RegisterGradient.".format(
            ", ".join(repr(t.name) for t in op.outputs)))
  wrong = wrongs.wrong_gradient(trace)
  if wrong is not None:
    op, why, fix = wrong
    raise errors.UnsupportedGraphError(
        product.purpose("No right gradient") + ".",
        "TensorFlow {} has a wrong one for {} '{}': {}".format(
            _tf.VERSION, op.type, op.name, why), fix)


def check_second(product, trace):
  """Refuses what has a first derivative and no second one."""
  found = orders.without_second(trace)
  if found is None:
    return True
  op, why, fix = found
  raise errors.MissingGradientError(
      product.purpose("No second derivative") + ".",
      "TensorFlow has a first but no second derivative for {} '{}': "
      "{}".format(op.type, op.name, why), fix)


def _check_stops(product, trace):
  """TensorFlow stops at whole ops; another output must not be lost."""
  stops = {stop.name for stop in product.stops}
  for stop in product.stops:
    for other in stop.op.outputs:
      if other.name in trace.tensors and other.name not in stops:
        raise errors.UnsupportedGraphError(
            "{} cannot be held constant alone.".format(
                tensors.describe(stop)),
            "tf.gradients stops at the whole op {}, and {} would be held "
            "constant as well.".format(
                tensors.describe(stop.op), tensors.describe(other)),
            "Use tf.stop_gradient({}) where the model reads it.".format(
                stop.name))


def refuse(product, lost, trace):
  """Raises the error for the xs in `lost`, of which no y has a gradient."""
  what, why, fix = [], [], []
  for x in lost:
    reason, advice = reasons.why_disconnected(product.ys, x, trace)
    what.append("No gradient of {} by {}.".format(
        tensors.describe_all(product.ys), tensors.describe(x)))
    why.append(reason)
    fix.append(advice)
  raise errors.DisconnectedError(
      " ".join(what), " ".join(dict.fromkeys(why)),
      " ".join(dict.fromkeys(fix)))
