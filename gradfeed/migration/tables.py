"""Copies of lookup tables, with the content that they have in a session."""

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.graph import cache
from gradfeed.graph import tensors


def copies(session, tables):
  """Tables of TF 2 with the content that those of a legacy graph have.

  Args:
    session: a raw `tf.Session`.
    tables: list of `tf.Operation`.

  Returns:
    dict from the name of each op to a table of TF 2, which does not change.

  Raises:
    UninitializedError: a table has not been initialised.
  """
  made = {}
  for op, (keys, values) in zip(tables, contents(session, tables)):
    with tf.init_scope(), _tf.eagerly():
      made[op.name] = _tf.new_table(
          tf.constant(keys, op.get_attr("key_dtype")),
          tf.constant(values, op.get_attr("value_dtype")))
  return made


def contents(session, tables):
  """What lookup tables hold in a session.

  Args:
    session: a raw `tf.Session`.
    tables: list of `tf.Operation`.

  Returns:
    list with a list of two arrays for each, all keys and values.

  Raises:
    UninitializedError: a table has not been initialised.
  """
  found = []
  for op in tables:
    try:
      found.append(_tf.session_run(session, _content(op)))
    except tf.errors.FailedPreconditionError as error:
      raise errors.UninitializedError(
          "The table {} has no content in this session.".format(
              tensors.describe(op)),
          "TensorFlow says: {}".format(errors.first_line(error)),
          "Run tf.tables_initializer() in the session.") from error
  return found


def _content(op):
  """The tensors of all keys and values of a table; made once."""

  def build():
    cache.check_not_finalized(
        op.graph, "Reading the table {}".format(tensors.describe(op)))
    with _tf.building(op.graph):
      return list(tf.raw_ops.LookupTableExportV2(
          table_handle=op.outputs[0], Tkeys=op.get_attr("key_dtype"),
          Tvalues=op.get_attr("value_dtype")))

  return cache.cached(op.graph, ("content", op.name), build)
