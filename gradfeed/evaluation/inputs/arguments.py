"""Checks what is passed to `function` and `run` beside values and feeds."""

from collections import abc
import warnings

from gradfeed import errors
from gradfeed.evaluation.inputs import feeds
from gradfeed.graph import lookup
from gradfeed.graph import nest
from gradfeed.graph import tensors

#: Seconds; TensorFlow counts milliseconds in a number of 64 bits.
_LONGEST = 1e9

_ON_UNUSED_INPUT = ("warn", "raise", "ignore")


def names(structure, graph):
  """The names of all dense tensors of the leaves of `structure`.

  Args:
    structure: `points` as a caller passed them, nested or not.
    graph: `tf.Graph`.

  Returns:
    list of str.
  """
  return [component.name for leaf in nest.flatten(structure)
          for component in tensors.resolve(leaf, graph, "points").components()]


def check_timeout(timeout):
  """Refuses a `timeout` that is no positive number, nor None."""
  if timeout is not None and not (
      isinstance(timeout, (int, float)) and 0 < timeout <= _LONGEST):
    raise errors.ArgumentError(
        "timeout={!r} is no time.".format(timeout),
        "It is the seconds that one run may take.",
        "Pass a positive number of at most {:g}, or None for no limit.".format(
            _LONGEST))


def check_on_unused_input(value):
  """Refuses an `on_unused_input` that is none of its values."""
  if value not in _ON_UNUSED_INPUT:
    raise errors.ArgumentError(
        "on_unused_input={!r} is none of its values.".format(value),
        "They are {}.".format(", ".join(map(repr, _ON_UNUSED_INPUT))),
        "Pass one of them.")


def report_unused(leaves, on_unused_input):
  """Warns of inputs on which no output depends, or refuses them, if any.

  Args:
    leaves: list of those inputs.
    on_unused_input: "warn", "raise" or "ignore".
  """
  if leaves and on_unused_input == "raise":
    raise feeds.feed_error(
        feeds.Problem(leaf, "no output depends on it") for leaf in leaves)
  if leaves and on_unused_input == "warn":
    warnings.warn(errors.GradfeedWarning(
        "No output depends on {}: a value makes no difference. Leave it out, "
        "or say on_unused_input=\"ignore\".".format(
            tensors.describe_all(leaves))),
                  stacklevel=lookup.stacklevel_of_caller())


def check_list(name, values, count):
  """Refuses an argument `name` that is no list (or tuple) of `count` values."""
  if not isinstance(values, (list, tuple)) or len(values) != count:
    raise errors.ArgumentError(
        "{} is {}.".format(name, "a list of {}".format(len(values))
                           if isinstance(values, (list, tuple)) else
                           "a {}".format(type(values).__name__)),
        "There has to be one for each of those of the function.",
        "Pass a list of {}.".format(count))


def check_mapping(feed_dict):
  """Refuses a `feed_dict` that is no mapping, nor None."""
  if feed_dict is not None and not isinstance(feed_dict, abc.Mapping):
    raise errors.ArgumentError(
        "feed_dict is a {}.".format(type(feed_dict).__name__),
        "It maps tensors to values.", "Pass a dict: {tensor: value}.")
