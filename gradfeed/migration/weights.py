"""The variables of a module: made from a session's, compared, written back."""

import collections
from collections import abc

import numpy as np

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.evaluation import sessions
from gradfeed.graph import tensors


def trainable_names(graph):
  """The names of the ops of the variables in TRAINABLE_VARIABLES of a graph."""
  with graph.as_default():
    collected = tf.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES)
  names = set()
  for variable in collected:
    if _tf.is_partitioned(variable):
      names.update(tensors.dense_of_variable(part).op.name for part in variable)
    elif _tf.is_variable(variable):
      names.add(tensors.dense_of_variable(variable).op.name)
  return names


def raw(session, graph):
  """The session to run in the place of `session`, which has to run `graph`."""
  sessions.check_open(session, graph)
  sessions.check_process(session)
  return _tf.innermost_session(session)


def values(session, variables):
  """The values of variables of a legacy graph.

  Args:
    session: a raw `tf.Session`.
    variables: list of `tensors.Dense`.

  Returns:
    dict from the name of the op of each to an array.

  Raises:
    UninitializedError: lists those that have none.
  """
  if not variables:
    return {}
  sessions.check_initialized(session, [v.op for v in variables])
  return _tf.session_run(session, {v.op.name: _read(v) for v in variables})


def _read(variable):
  """A tensor with the value of a variable; an op is added if there is none."""
  try:
    return tensors.read_of(variable)
  except errors.ArgumentError:
    return sessions.new_read(variable)


def assign(session, variables, arrays):
  """Writes values into variables of a legacy graph, all in one run.

  Args:
    session: a raw `tf.Session`.
    variables: list of `tensors.Dense`.
    arrays: list of arrays, one for each.

  Raises:
    FinalizedGraphError: the ops that assign are not there, and cannot be added.
  """
  ops, feed = [], {}
  for variable, array in zip(variables, arrays):
    placeholder, assigning = sessions.assignment(variable)
    ops.append(assigning)
    feed[placeholder] = array
  if ops:
    _tf.session_run(session, ops, feed)


def prepare_assignments(variables):
  """Adds the ops that `assign` runs, where the graph is still open."""
  for variable in variables:
    if not variable.graph.finalized:
      sessions.assignment(variable)


class Given:
  """The variables that the caller gave, by the names of those they replace.

  Attributes:
    by_name: dict from name to the variable as it was given.
  """

  def __init__(self, variables, own):
    """Checks them.

    Args:
      variables: mapping from name to variable, or None.
      own: list of `tensors.Dense`, those of the legacy graph.

    Raises:
      ArgumentError: lists all that do not fit.
    """
    if not isinstance(variables, (abc.Mapping, type(None))):
      raise errors.ArgumentError(
          "variables is a {}.".format(type(variables).__name__),
          "It maps names of variables of the graph to variables of TF 2.",
          "Pass a dict: {{{!r}: variable}}.".format(
              own[0].op.name if own else "w"))
    expected = collections.OrderedDict((v.op.name, v) for v in own)
    self.by_name, problems = {}, []
    for key, variable in (variables or {}).items():
      name = key[:-2] if isinstance(key, str) and key.endswith(":0") else key
      if name not in expected:
        problems.append("{!r} is none of the variables that f reads".format(
            key))
      else:
        problem = _misfit(variable, expected[name])
        if problem:
          problems.append("{!r}: {}".format(key, problem))
        self.by_name[name] = variable
    if problems:
      raise errors.ArgumentError(
          "variables cannot be used:{}".format(
              "".join("\n    " + problem for problem in problems)),
          "A variable takes the place of one of the same dtype and shape. f "
          "reads {}.".format(tensors.describe_all(own) or "none"),
          "Give each a variable of TF 2 or Keras, as above; those that are "
          "left out are made.")


def tf_variable(variable):
  """The variable of TF 2 behind one that was given, which may be of Keras 3.

  Returns:
    `tf.Variable`; None if there is none.
  """
  inner = getattr(variable, "value", None)
  if not callable(inner) and _tf.is_variable(inner):
    return inner
  return variable if _tf.is_variable(variable) else None


def _misfit(variable, expected):
  """Why a variable cannot take the place of a `tensors.Dense`, or None."""
  inner = tf_variable(variable)
  if inner is None or not _tf.is_eager(inner):
    return "a {} is no variable of TF 2".format(type(variable).__name__)
  if inner.dtype.base_dtype != expected.dtype or (
      not expected.shape.is_compatible_with(inner.shape)):
    return "({}, {}) does not fit {}".format(
        inner.dtype.name, tensors.format_shape(inner.shape), expected)
  return None


def is_trainable(variable):
  """Whether a variable, of TF 2 or Keras 3, is trained."""
  return bool(getattr(variable, "trainable", False))


def check_keras(variables):
  """Refuses to be trained by Keras 3 with variables that it does not own.

  Args:
    variables: dict from name to variable.

  Raises:
    ArgumentError: names them.
  """
  known = _tf.weights_in_training()
  if known is None:
    return
  lost = [name for name, variable in variables.items()
          if is_trainable(variable) and not any(
              tf_variable(variable) is tf_variable(own) for own in known)]
  if lost:
    raise errors.ArgumentError(
        "Keras 3 would not train {}.".format(", ".join(map(repr, lost))),
        "It trains variables of its own alone (add_weight), and those of this "
        "module are of TF 2.",
        "Make them in the layer and give them: gf.to_module(f, variables={{{!r}"
        ": self.add_weight(...)}}), then module.update_from(session); where "
        "they are not to be trained, tf.Variable(..., trainable=False).".format(
            lost[0]))


def to_arrays(variables):
  """The values of variables of TF 2, as a list of arrays of their own."""
  with _tf.eagerly():
    return [np.array(tf_variable(variable).numpy()) for variable in variables]
