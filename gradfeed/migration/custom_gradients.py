"""What the gradients of `tf.custom_gradient` read of a legacy graph."""


def tensors_read(results, places):
  """The tensors that backward functions read and nothing else has to compute.

  Args:
    results: list of `tf.Tensor`.
    places: container of the names of tensors that get values.

  Returns:
    list of `tf.Tensor`.
  """
  del results, places
  return []
