
from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.graph import cache
from gradfeed.graph import effects
from gradfeed.graph import op_types
from gradfeed.graph import tensors
from gradfeed.graph import traversal


def check_fetch(item):
  """A tensor inside a while loop has a value at each turn, and none after."""
  op = item if isinstance(item, tf.Operation) else item.op
  if _tf.is_inside_while(op):
    raise errors.ArgumentError(
        "{} cannot be evaluated.".format(tensors.describe(item)),
        "It is inside a while loop, where it has a value at each turn.",
        "Take the output of the loop, or collect the values in a TensorArray.")


def check_assignments(found, wanted):
  changing = effects.assigning_ops(found)
  if changing:
    raise errors.AssignmentError(
        "Evaluating {} would run {}.".format(
            ", ".join("'{}'".format(t.name) for t in wanted[:3]),
            tensors.describe_all(changing[:4])),
        "That changes a variable at each call, and whether the value before or "
        "after is read is left to chance.",
        "Take outputs that do not depend on it (moving averages: build the "
        "network with is_training=False, or with updates in "
        "tf.GraphKeys.UPDATE_OPS), or run it with gradfeed.run.")


def check_races(found, wanted):
  """A derivative must not read a variable while the same run changes it."""
  known = cache.cache_of(wanted[0].graph).derivatives if wanted else {}
  derivatives = [t for t in wanted
                 if isinstance(t, tf.Tensor) and t.name in known]
  changing = effects.assigning_ops(found) if derivatives else []
  for op in changing:
    before = traversal.ancestors([op])
    changed = {t.name for t in op.inputs
               if t.op.type in op_types.VARIABLES}
    for derivative in derivatives:
      for reader in traversal.ancestors([derivative]).values():
        if reader.name not in before and _reads(reader, changed):
          raise errors.AssignmentError(
              "{} is fetched together with {}.".format(
                  tensors.describe(derivative), tensors.describe(op)),
              "'{}' reads {} while the same run changes it: the derivative "
              "would be at the old weights, the new ones, or some of "
              "each.".format(reader.name, ", ".join(sorted(changed))),
              "Evaluate the derivative in a run of its own.")


def _reads(op, variables):
  for tensor in op.inputs:
    if tensor.name in variables:
      return True
    if tensor.op.type == "Identity" and any(
        t.name in variables for t in tensor.op.inputs):
      return True
  return False
