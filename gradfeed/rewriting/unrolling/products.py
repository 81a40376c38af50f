"""Products of matrices, with their factors exchanged where that is faster.

The gradient of a dense layer multiplies with its weights transposed. For a few
rows TensorFlow takes two to four times as long for that as for the product of
the layer: it brings the weights into another order first. With the factors
exchanged it is the few rows that are brought into another order.
"""

from gradfeed._tf import tf

#: The fewest elements of a second factor for which it pays.
_LARGE = 2 ** 14


def may_be_exchanged(op):
  """Whether an op is a product whose second factor is transposed."""
  return op.type == "MatMul" and op.get_attr("transpose_b") and not (
      op.get_attr("transpose_a")) and op.inputs[0].dtype.base_dtype in (
          tf.float32, tf.float64)


def exchanged(rows, factor):
  """Rows times a factor that is transposed; None where that is no faster.

  Args:
    rows, factor: `tf.Tensor`, what an op multiplies that `may_be_exchanged`.
  """
  if not (rows.shape.is_fully_defined() and factor.shape.is_fully_defined()):
    return None
  (count, inner), (columns, _) = rows.shape.as_list(), factor.shape.as_list()
  if not 1 < count <= inner or inner * columns < _LARGE:
    return None
  return tf.transpose(tf.matmul(factor, rows, transpose_b=True))
