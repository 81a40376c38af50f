"""Second derivatives of max-pools that are as large as what is pooled.

On a processor, the kernels of MaxPoolGradGrad write the result over the input
that they still read where both have the same size: in a pool of stride 1 with
padding SAME, of a window of 1, or of an image of one pixel. The derivative by
the cotangent of a max-pool is built here in such a way that the sizes differ.
"""

from gradfeed._tf import tensors
from gradfeed._tf.api import tf


def _max_pool_grad(unused_original, op, grad):
  """The gradient of MaxPoolGrad and MaxPool3DGrad by their inputs."""
  attributes = [op.get_attr(name) for name in ("ksize", "strides")]
  return [tf.zeros_like(op.inputs[0]), tf.zeros_like(op.inputs[1]),
          _tangent(op, grad, *attributes)]


def _max_pool_grad_v2(original, op, grad):
  """The gradient of MaxPoolGradV2, whose window is known or not."""
  attributes = [tensors.constant_value(t) for t in op.inputs[3:]]
  if any(value is None for value in attributes):
    return original(op, grad)
  return [tf.zeros_like(op.inputs[0]), tf.zeros_like(op.inputs[1]),
          _tangent(op, grad, *[value.tolist() for value in attributes]),
          None, None]


def _tangent(op, tangent, ksize, strides):
  """The elements of `tangent` at the maxima of a pool.

  Args:
    op: MaxPoolGrad, MaxPoolGradV2 or MaxPool3DGrad.
    tangent: `tf.Tensor` of the shape of what was pooled.
    ksize: list of int, the window.
    strides: list of int.

  Returns:
    `tf.Tensor` of the shape of the result of the pool.
  """
  pooled, result = op.inputs[0], op.inputs[1]
  padding = tf.compat.as_str(op.get_attr("padding"))
  data_format = tf.compat.as_str(op.get_attr("data_format"))
  if all(size == 1 for size in ksize):
    return tangent[tuple(slice(None, None, stride) for stride in strides)]
  if padding == "SAME" and not _shrinks(pooled, strides):
    paddings = [_same_padding(pooled, axis, size, stride) if (
        size > 1) else [0, 0] for axis, (size, stride) in enumerate(
            zip(ksize, strides))]
    pooled = tf.pad(pooled, paddings, constant_values=pooled.dtype.min)
    tangent = tf.pad(tangent, paddings)
    padding = "VALID"
  build = (tf.raw_ops.MaxPool3DGradGrad if op.type == "MaxPool3DGrad"
           else tf.raw_ops.MaxPoolGradGrad)
  return build(orig_input=pooled, orig_output=result, grad=tangent,
               ksize=ksize, strides=strides, padding=padding,
               data_format=data_format)


def _shrinks(pooled, strides):
  """Whether the result of a pool is known to be smaller than what it pools."""
  return pooled.shape.ndims is not None and any(
      stride > 1 and (length or 0) > 1
      for stride, length in zip(strides, pooled.shape.as_list()))


def _same_padding(pooled, axis, size, stride):
  """[before, after]: how much padding SAME adds along one axis."""
  length = pooled.shape.as_list()[axis] if pooled.shape.ndims else None
  if stride == 1:
    total = size - 1
  elif length is not None:
    total = max((-(-length // stride) - 1) * stride + size - length, 0)
  else:
    length = tf.shape(pooled)[axis]
    total = tf.maximum((-(-length // stride) - 1) * stride + size - length, 0)
  before = total // 2
  return [before, total - before]


#: As in `scatter_gradients.GRADIENTS`.
GRADIENTS = {
    "MaxPool3DGrad": _max_pool_grad,
    "MaxPoolGrad": _max_pool_grad,
    "MaxPoolGradV2": _max_pool_grad_v2,
}
