"""Inputs and attributes with which single ops can be built and differentiated.

`CASES` has, for each type of op that needs more than floating arguments of one
shape, a list of keyword arguments of `tf.raw_ops`; `op_guesses` tries shapes
for the others.
"""

import collections

import numpy as np
import tensorflow.compat.v1 as tf

#: A floating input: its shape, or its value.
Real = collections.namedtuple("Real", ["shape", "value"])

_INT64 = np.int64


def _real(*shape):
  """Random numbers between 0.2 and 0.8 of this shape."""
  return Real(shape, None)


def _value(value):
  return Real(np.shape(value), np.asarray(value, np.float64))


def _ints(value, dtype=np.int32):
  return np.array(value, dtype)


#: How many outputs of an op count; the others are there for its gradient.
OUTPUTS = {"FusedBatchNorm": 1, "FusedBatchNormV2": 1, "FusedBatchNormV3": 1}

def draw(real, random, dtype):
  """The array for a `Real`; random numbers from `random`."""
  value = (random.uniform(0.2, 0.8, real.shape) if real.value is None
           else real.value)
  return np.asarray(value, dtype)


_POSITIVE = _value([[4.0, 0.5, 0.3], [0.5, 3.0, 0.2], [0.3, 0.2, 5.0]])
_AROUND = _value([-1.5, 0.2, 0.5, 3.0])
_AROUND_2 = _value([[-1.5, 0.2], [0.5, 3.0]])

_PAD = dict(input=_real(2, 3), paddings=_ints([[1, 1], [0, 2]]))
_SPARSE = dict(indices=_ints([[0, 0], [0, 2], [1, 1]], _INT64),
               values=_real(3), shape=_ints([2, 3], _INT64))
_SAME = dict(strides=[1, 1, 1, 1], padding="SAME")
_SAME_3D = dict(strides=[1, 1, 1, 1, 1], padding="SAME")
_POOL = dict(_SAME, ksize=[1, 2, 2, 1])
_POOL_3D = dict(_SAME_3D, ksize=[1, 2, 2, 2, 1])
_HALVED = dict(_POOL, strides=[1, 2, 2, 1])
_SCATTER = dict(indices=_ints([[2], [0]]), updates=_real(2))
_STITCH = dict(indices=[_ints([0, 2]), _ints([1])], data=[_real(2), _real(1)])
_SEGMENTS = dict(data=_real(4, 2), segment_ids=_ints([0, 0, 1, 2]))
_UNSORTED = dict(data=_real(4, 2), segment_ids=_ints([0, 2, 0, 1]),
                 num_segments=_ints(3))
_PICKED = dict(data=_real(4, 2), indices=_ints([0, 2, 3]),
               segment_ids=_ints([0, 0, 1]))
_CTC = dict(inputs=_real(4, 1, 3), sequence_length=_ints([4]))
_NORM = dict(x=_real(2, 3, 3, 2), scale=_real(2), offset=_real(2))
_NORM_GRAD = dict(y_backprop=_real(2, 3, 3, 2), x=_real(2, 3, 3, 2),
                  scale=_real(2), reserve_space_1=_real(2),
                  reserve_space_2=_real(2))
_QUANTIZED = dict(input=_AROUND, input_min=_value(-1.0), input_max=_value(2.0),
                  range_given=True)
_FAKE = dict(min=_value(-1.0), max=_value(2.0))
_FAKE_EACH = dict(min=_value([-1.0, -1.0]), max=_value([2.0, 2.0]))
_LSTM = dict(
    seq_len_max=_ints(2, _INT64), x=_real(2, 1, 3), cs_prev=_real(1, 4),
    h_prev=_real(1, 4), w=_real(7, 16), wci=_real(4), wcf=_real(4),
    wco=_real(4), b=_real(16), use_peephole=True)
_DIAGONALS = dict(input=_real(3, 4), k=_ints([-1, 1]), padding_value=_real())
_DIAGONAL = dict(diagonal=_real(3), k=_ints([0, 0]), num_rows=_ints(3),
                 num_cols=_ints(4), padding_value=_real())
_IMAGE = dict(images=_real(1, 4, 4, 2))
_TRANSFORM = dict(_IMAGE, interpolation="BILINEAR", output_shape=_ints([4, 4]),
                  transforms=_value([[0.9, 0.1, 2.2, 0.1, 0.8, 0.1, 0, 0]]))
_FRACTIONAL = dict(value=_real(1, 6, 6, 1), deterministic=True, seed=1,
                   seed2=2, pooling_ratio=[1.0, 1.5, 1.5, 1.0])
_REDUCED = dict(input=_real(2, 3), axis=_ints([1]))


def _sparse(prefix, **more):
  """The three inputs of a sparse tensor, named with a prefix."""
  return dict({prefix + name: value for name, value in _SPARSE.items()}, **more)


def _two_sparse(**more):
  return dict(_sparse("a_"), **_sparse("b_", **more))


CASES = {
    "Acosh": [dict(x=_value([1.5, 2.5]))],
    "AccumulateNV2": [dict(inputs=[_real(2), _real(2)], shape=[2])],
    "AddN": [dict(inputs=[_real(2), _real(2)])],
    "AvgPool": [dict(_POOL, value=_real(1, 4, 4, 2))],
    "AvgPool3D": [dict(_POOL_3D, input=_real(1, 3, 3, 3, 2))],
    "AvgPool3DGrad": [dict(_POOL_3D, orig_input_shape=_ints([1, 3, 3, 3, 2]),
                           grad=_real(1, 3, 3, 3, 2))],
    "AvgPoolGrad": [dict(_POOL, orig_input_shape=_ints([1, 4, 4, 2]),
                         grad=_real(1, 4, 4, 2))],
    "BandedTriangularSolve": [dict(matrix=_real(2, 3), rhs=_real(3, 1))],
    "BatchToSpace": [dict(input=_real(4, 2, 2, 1), block_size=2,
                          crops=_ints([[0, 0], [0, 0]]))],
    "BatchToSpaceND": [dict(input=_real(4, 2, 2, 1), block_shape=_ints([2, 2]),
                            crops=_ints([[0, 0], [0, 0]]))],
    "Bitcast": [dict(input=_real(3), type=tf.int64),
                dict(input=_real(3), type=tf.int32)],
    "BlockLSTM": [_LSTM],
    "BlockLSTMV2": [_LSTM],
    "BroadcastTo": [dict(input=_real(2), shape=_ints([3, 2]))],
    "CTCBeamSearchDecoder": [dict(_CTC, beam_width=3, top_paths=1)],
    "CTCGreedyDecoder": [_CTC],
    "CTCLoss": [dict(_CTC, labels_indices=_ints([[0, 0]], _INT64),
                     labels_values=_ints([1]))],
    "Cast": [dict(x=_real(2), DstT=tf.float64)],
    "CheckNumerics": [dict(tensor=_real(2), message="not finite")],
    "Cholesky": [dict(input=_POSITIVE)],
    "ClipByValue": [dict(t=_AROUND, clip_value_min=_value(-1.0),
                         clip_value_max=_value(2.0))],
    "Concat": [dict(concat_dim=_ints(0), values=[_real(2), _real(3)])],
    "ConcatV2": [dict(values=[_real(2), _real(3)], axis=_ints(0))],
    "ConjugateTranspose": [dict(x=_real(2, 3), perm=_ints([1, 0]))],
    "Conv2D": [dict(_SAME, input=_real(1, 4, 4, 2), filter=_real(2, 2, 2, 3))],
    "Conv2DBackpropFilter": [dict(
        _SAME, input=_real(1, 4, 4, 2), filter_sizes=_ints([2, 2, 2, 3]),
        out_backprop=_real(1, 4, 4, 3))],
    "Conv2DBackpropInput": [dict(
        _SAME, input_sizes=_ints([1, 4, 4, 2]), filter=_real(2, 2, 2, 3),
        out_backprop=_real(1, 4, 4, 3))],
    "Conv3D": [dict(_SAME_3D, input=_real(1, 3, 3, 3, 2),
                    filter=_real(2, 2, 2, 2, 3))],
    "Conv3DBackpropFilterV2": [dict(
        _SAME_3D, input=_real(1, 3, 3, 3, 2),
        filter_sizes=_ints([2, 2, 2, 2, 3]),
        out_backprop=_real(1, 3, 3, 3, 3))],
    "Conv3DBackpropInputV2": [dict(
        _SAME_3D, input_sizes=_ints([1, 3, 3, 3, 2]),
        filter=_real(2, 2, 2, 2, 3), out_backprop=_real(1, 3, 3, 3, 3))],
    "CropAndResize": [dict(
        image=_real(1, 4, 4, 2), boxes=_value([[0.1, 0.1, 0.8, 0.7]]),
        box_ind=_ints([0]), crop_size=_ints([3, 3]))],
    "Cross": [dict(a=_real(3), b=_real(3))],
    "Cumprod": [dict(x=_real(4), axis=_ints(0))],
    "Cumsum": [dict(x=_real(4), axis=_ints(0))],
    "CumulativeLogsumexp": [dict(x=_real(4), axis=_ints(0))],
    "DepthToSpace": [dict(input=_real(1, 2, 2, 4), block_size=2)],
    "DepthwiseConv2dNative": [dict(_SAME, input=_real(1, 4, 4, 2),
                                   filter=_real(2, 2, 2, 3))],
    "DepthwiseConv2dNativeBackpropFilter": [dict(
        _SAME, input=_real(1, 4, 4, 2), filter_sizes=_ints([2, 2, 2, 3]),
        out_backprop=_real(1, 4, 4, 6))],
    "DepthwiseConv2dNativeBackpropInput": [dict(
        _SAME, input_sizes=_ints([1, 4, 4, 2]), filter=_real(2, 2, 2, 3),
        out_backprop=_real(1, 4, 4, 6))],
    "Dilation2D": [dict(_SAME, input=_real(1, 4, 4, 2), filter=_real(2, 2, 2),
                        rates=[1, 1, 1, 1])],
    "DrawBoundingBoxes": [dict(images=_real(1, 4, 4, 3),
                               boxes=_value([[[0.1, 0.1, 0.8, 0.7]]]))],
    "DynamicPartition": [dict(data=_real(4), partitions=_ints([0, 1, 0, 1]),
                              num_partitions=2)],
    "DynamicStitch": [_STITCH],
    "Einsum": [dict(inputs=[_real(2, 3), _real(3, 2)], equation="ij,jk->ik")],
    "EnsureShape": [dict(input=_real(2), shape=[2])],
    "EuclideanNorm": [_REDUCED],
    "ExpandDims": [dict(input=_real(2), axis=_ints(0))],
    "ExtractGlimpse": [dict(input=_real(1, 4, 4, 2), size=_ints([2, 2]),
                            offsets=_value([[0.1, 0.2]]))],
    "ExtractImagePatches": [dict(
        _IMAGE, ksizes=[1, 2, 2, 1], strides=[1, 1, 1, 1], rates=[1, 1, 1, 1],
        padding="VALID")],
    "ExtractVolumePatches": [dict(
        input=_real(1, 3, 3, 3, 2), ksizes=[1, 2, 2, 2, 1],
        strides=[1, 1, 1, 1, 1], padding="VALID")],
    "FakeQuantWithMinMaxVars": [dict(_FAKE, inputs=_AROUND)],
    "FakeQuantWithMinMaxVarsGradient": [dict(_FAKE, gradients=_real(4),
                                             inputs=_AROUND)],
    "FakeQuantWithMinMaxVarsPerChannel": [dict(_FAKE_EACH, inputs=_AROUND_2)],
    "FakeQuantWithMinMaxVarsPerChannelGradient": [dict(
        _FAKE_EACH, gradients=_real(2, 2), inputs=_AROUND_2)],
    "Fill": [dict(dims=_ints([2, 3]), value=_real())],
    "FractionalAvgPool": [_FRACTIONAL],
    "FractionalMaxPool": [_FRACTIONAL],
    "FusedBatchNorm": [dict(_NORM, mean=_real(2), variance=_real(2),
                            is_training=False)],
    "FusedBatchNormGrad": [dict(_NORM_GRAD, is_training=False)],
    "FusedBatchNormGradV3": [dict(_NORM_GRAD, reserve_space_3=_real(2),
                                  is_training=False)],
    "Gather": [dict(params=_real(3, 2), indices=_ints([2, 0, 0]))],
    "GatherNd": [dict(params=_real(3, 2), indices=_ints([[2, 1], [0, 0]]))],
    "GatherV2": [dict(params=_real(3, 2), indices=_ints([2, 0, 0]),
                      axis=_ints(0))],
    "HSVToRGB": [dict(images=_real(1, 2, 3))],
    "IdentityN": [dict(input=[_real(2), _real(3)])],
    "ImageProjectiveTransformV2": [_TRANSFORM],
    "ImageProjectiveTransformV3": [dict(_TRANSFORM, fill_value=_real(),
                                        fill_mode="CONSTANT")],
    "IsotonicRegression": [dict(input=_real(1, 4))],
    "LRN": [dict(input=_real(1, 2, 2, 3))],
    "LinSpace": [dict(start=_value(0.3), stop=_value(3.1), num=_ints(4))],
    "MatrixBandPart": [dict(input=_real(3, 3), num_lower=_ints(1, _INT64),
                            num_upper=_ints(0, _INT64))],
    "MatrixDiagPartV2": [_DIAGONALS],
    "MatrixDiagPartV3": [_DIAGONALS],
    "MatrixDiagV2": [_DIAGONAL],
    "MatrixDiagV3": [_DIAGONAL],
    "MatrixInverse": [dict(input=_POSITIVE)],
    "MatrixSetDiagV2": [dict(input=_real(3, 4), diagonal=_real(3),
                             k=_ints(0))],
    "MatrixSetDiagV3": [dict(input=_real(3, 4), diagonal=_real(3),
                             k=_ints(0))],
    "MatrixSolveLs": [dict(matrix=_real(3, 2), rhs=_real(3, 1),
                           l2_regularizer=_value(0.1), fast=True)],
    "MatrixSquareRoot": [dict(input=_POSITIVE)],
    "Max": [_REDUCED],
    "MaxPool": [dict(_HALVED, input=_real(1, 4, 4, 2))],
    "MaxPool3D": [dict(_POOL_3D, input=_real(1, 4, 4, 4, 2))],
    "MaxPoolV2": [dict(input=_real(1, 4, 4, 2), ksize=_ints([1, 2, 2, 1]),
                       strides=_ints([1, 2, 2, 1]), padding="SAME")],
    "MaxPoolWithArgmax": [dict(_HALVED, input=_real(1, 4, 4, 2))],
    "Mean": [_REDUCED],
    "Min": [_REDUCED],
    "MirrorPad": [dict(_PAD, mode="REFLECT")],
    "MirrorPadGrad": [dict(_PAD, input=_real(4, 5), mode="REFLECT")],
    "NthElement": [dict(input=_real(5), n=_ints(2))],
    "OneHot": [dict(indices=_ints([0, 2]), depth=_ints(3), on_value=_real(),
                    off_value=_real())],
    "Pack": [dict(values=[_real(2), _real(2)])],
    "Pad": [_PAD],
    "PadV2": [dict(_PAD, constant_values=_real())],
    "ParallelDynamicStitch": [_STITCH],
    "ParameterizedTruncatedNormal": [dict(
        shape=_ints([1, 3]), means=_value([0.3]), stdevs=_value([1.1]),
        minvals=_value([-2.0]), maxvals=_value([2.0]), seed=1, seed2=2)],
    "PlaceholderWithDefault": [dict(input=_real(2), shape=[2])],
    "Polygamma": [dict(a=_value(2.0), x=_real())],
    "Prod": [_REDUCED],
    "QuantizeAndDequantizeV2": [_QUANTIZED],
    "QuantizeAndDequantizeV3": [dict(_QUANTIZED, num_bits=_ints(8))],
    "QuantizeAndDequantizeV4": [_QUANTIZED],
    "RGBToHSV": [dict(images=_real(1, 2, 3))],
    "RaggedGather": [dict(
        params_nested_splits=[_ints([0, 2, 3], _INT64)],
        params_dense_values=_real(3), indices=_ints([1, 0]),
        OUTPUT_RAGGED_RANK=1)],
    "RaggedRange": [dict(starts=_value([0.3]), limits=_value([3.1]),
                         deltas=_value([1.1]))],
    "RaggedTensorToTensor": [dict(
        shape=_ints([2, 3], _INT64), values=_real(3), default_value=_real(),
        row_partition_tensors=[_ints([0, 2, 3], _INT64)],
        row_partition_types=["ROW_SPLITS"])],
    "Range": [dict(start=_value(0.3), limit=_value(3.1), delta=_value(1.1))],
    "Reshape": [dict(tensor=_real(2, 3), shape=_ints([3, 2]))],
    "ResizeBicubic": [dict(images=_real(1, 3, 3, 2), size=_ints([5, 4]))],
    "ResizeBilinear": [dict(images=_real(1, 3, 3, 2), size=_ints([5, 4]))],
    "ResizeBilinearGrad": [dict(grads=_real(1, 5, 4, 2),
                                original_image=_real(1, 3, 3, 2))],
    "ResizeNearestNeighbor": [dict(images=_real(1, 3, 3, 2),
                                   size=_ints([5, 4]))],
    "Reverse": [dict(tensor=_real(2, 3), dims=np.array([True, False]))],
    "ReverseSequence": [dict(input=_real(2, 3), seq_lengths=_ints([2, 3]),
                             seq_dim=1)],
    "ReverseV2": [dict(tensor=_real(2, 3), axis=_ints([0]))],
    "Roll": [dict(input=_real(4), shift=_ints([1]), axis=_ints([0]))],
    "ScaleAndTranslate": [dict(
        _IMAGE, size=_ints([3, 3]), scale=_value([0.8, 0.9]),
        translation=_value([0.1, 0.2]))],
    "ScatterNd": [dict(_SCATTER, shape=_ints([4]))],
    "ScatterNdNonAliasingAdd": [dict(_SCATTER, input=_real(4))],
    "SegmentMax": [_SEGMENTS],
    "SegmentMean": [_SEGMENTS],
    "SegmentMin": [_SEGMENTS],
    "SegmentProd": [_SEGMENTS],
    "SegmentSum": [_SEGMENTS],
    "Select": [dict(condition=np.array([True, False]), x=_real(2),
                    y=_real(2))],
    "SelectV2": [dict(condition=np.array([True, False]), t=_real(2),
                      e=_real(2))],
    "SelfAdjointEigV2": [dict(input=_POSITIVE)],
    "Slice": [dict(input=_real(3, 2), begin=_ints([1, 0]), size=_ints([2, 1]))],
    "SoftmaxCrossEntropyWithLogits": [dict(features=_real(2, 3),
                                           labels=_real(2, 3))],
    "SpaceToBatch": [dict(input=_real(1, 4, 4, 1), block_size=2,
                          paddings=_ints([[0, 0], [0, 0]]))],
    "SpaceToBatchND": [dict(input=_real(1, 4, 4, 1), block_shape=_ints([2, 2]),
                            paddings=_ints([[0, 0], [0, 0]]))],
    "SpaceToDepth": [dict(input=_real(1, 4, 4, 1), block_size=2)],
    "SparseAdd": [_two_sparse(thresh=_value(0.0))],
    "SparseAddGrad": [dict(
        backprop_val_grad=_real(3), a_indices=_SPARSE["indices"],
        b_indices=_SPARSE["indices"], sum_indices=_SPARSE["indices"])],
    "SparseConcat": [dict(
        indices=[_SPARSE["indices"]] * 2, values=[_real(3), _real(3)],
        shapes=[_SPARSE["shape"]] * 2, concat_dim=0)],
    "SparseDenseCwiseDiv": [_sparse("sp_", dense=_real(2, 3))],
    "SparseDenseCwiseMul": [_sparse("sp_", dense=_real(2, 3))],
    "SparseFillEmptyRows": [dict(
        indices=_ints([[0, 0], [2, 1]], _INT64), values=_real(2),
        dense_shape=_ints([3, 3], _INT64), default_value=_real())],
    "SparseMatMul": [dict(a=_real(2, 3), b=_real(3, 2))],
    "SparseReduceSum": [_sparse("input_", reduction_axes=_ints([1]))],
    "SparseReorder": [_sparse("input_")],
    "SparseSegmentMean": [_PICKED],
    "SparseSegmentMeanWithNumSegments": [dict(_PICKED, num_segments=_ints(3))],
    "SparseSegmentSqrtN": [_PICKED],
    "SparseSegmentSqrtNWithNumSegments": [dict(_PICKED,
                                               num_segments=_ints(3))],
    "SparseSegmentSum": [_PICKED],
    "SparseSegmentSumWithNumSegments": [dict(_PICKED, num_segments=_ints(3))],
    "SparseSlice": [dict(_SPARSE, start=_ints([0, 0], _INT64),
                         size=_ints([2, 2], _INT64))],
    "SparseSoftmax": [_sparse("sp_")],
    "SparseSoftmaxCrossEntropyWithLogits": [dict(features=_real(2, 3),
                                                 labels=_ints([0, 2]))],
    "SparseTensorDenseAdd": [_sparse("a_", b=_real(2, 3))],
    "SparseTensorDenseMatMul": [_sparse("a_", b=_real(3, 2))],
    "SparseToDense": [dict(
        sparse_indices=_ints([[0], [2]]), output_shape=_ints([4]),
        sparse_values=_real(2), default_value=_real())],
    "Split": [dict(axis=_ints(0), value=_real(4), num_split=2)],
    "SplitV": [dict(value=_real(4), size_splits=_ints([1, 3]), axis=_ints(0),
                    num_split=2)],
    "StatelessParameterizedTruncatedNormal": [dict(
        shape=_ints([3]), seed=_ints([1, 2]), means=_value(0.3),
        stddevs=_value(1.1), minvals=_value(-2.0), maxvals=_value(2.0))],
    "StatelessRandomGammaV2": [dict(
        shape=_ints([3]), seed=_ints([1, 2]), alpha=_value([1.2, 2.3, 0.7]))],
    "StatelessRandomPoisson": [dict(
        shape=_ints([3]), seed=_ints([1, 2]), lam=_value([2.0, 5.0, 7.0]),
        dtype=tf.float64)],
    "StridedSlice": [dict(input=_real(4), begin=_ints([1]), end=_ints([3]),
                          strides=_ints([1]))],
    "StridedSliceGrad": [dict(shape=_ints([4]), begin=_ints([1]),
                              end=_ints([3]), strides=_ints([1]),
                              dy=_real(2))],
    "Sum": [_REDUCED],
    "TensorScatterAdd": [dict(_SCATTER, tensor=_real(4))],
    "TensorScatterMax": [dict(_SCATTER, tensor=_real(4))],
    "TensorScatterMin": [dict(_SCATTER, tensor=_real(4))],
    "TensorScatterSub": [dict(_SCATTER, tensor=_real(4))],
    "TensorScatterUpdate": [dict(_SCATTER, tensor=_real(4))],
    "TensorStridedSliceUpdate": [dict(
        input=_real(4), begin=_ints([1]), end=_ints([3]), strides=_ints([1]),
        value=_real(2))],
    "Tile": [dict(input=_real(2), multiples=_ints([2]))],
    "TopKV2": [dict(input=_real(5), k=_ints(2))],
    "Transpose": [dict(x=_real(2, 3), perm=_ints([1, 0]))],
    "TridiagonalMatMul": [dict(superdiag=_real(1, 3), maindiag=_real(1, 3),
                               subdiag=_real(1, 3), rhs=_real(3, 2))],
    "TridiagonalSolve": [dict(diagonals=_real(3, 3), rhs=_real(3, 2),
                              partial_pivoting=False)],
    "Unpack": [dict(value=_real(2, 3), num=2)],
    "UnsortedSegmentMax": [_UNSORTED],
    "UnsortedSegmentMin": [_UNSORTED],
    "UnsortedSegmentProd": [_UNSORTED],
    "UnsortedSegmentSum": [_UNSORTED],
    "Zeta": [dict(x=_value(2.3), q=_real())],
}
CASES["FusedBatchNormV2"] = CASES["FusedBatchNormV3"] = CASES["FusedBatchNorm"]
CASES["FusedBatchNormGradV2"] = CASES["FusedBatchNormGrad"]
