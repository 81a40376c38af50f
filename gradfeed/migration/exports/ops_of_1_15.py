"""What TensorFlow 1.15 knows of ops.

Written by scripts/write_ops_of_versions.py, with TensorFlow 2.21.0 as the
newer one.
"""

#: From each attribute that newer versions have added to the ops that
#: they added it to.
ADDED_ATTRIBUTES = {
    "Tcomplex": """
        IRFFT IRFFT2D IRFFT3D RFFT RFFT2D RFFT3D""",
    "Tk": """
        TopKV2""",
    "Treal": """
        IRFFT IRFFT2D IRFFT3D RFFT RFFT2D RFFT3D""",
    "Tsegmentids": """
        SparseSegmentMean SparseSegmentMeanGrad
        SparseSegmentMeanWithNumSegments SparseSegmentSqrtN
        SparseSegmentSqrtNGrad SparseSegmentSqrtNWithNumSegments
        SparseSegmentSum SparseSegmentSumWithNumSegments""",
    "Tshape": """
        TensorListGetItem""",
    "allow_missing_files": """
        MergeV2Checkpoints""",
    "allowed_devices": """
        VarHandleOp""",
    "axis": """
        Dequantize QuantizeAndDequantizeV2 QuantizeAndDequantizeV3
        QuantizeV2""",
    "bad_indices_policy": """
        GatherNd ResourceScatterNdAdd ResourceScatterNdSub
        ResourceScatterNdUpdate ScatterNd ScatterNdAdd
        ScatterNdNonAliasingAdd ScatterNdSub ScatterNdUpdate
        TensorScatterAdd TensorScatterSub TensorScatterUpdate""",
    "blank_index": """
        CTCGreedyDecoder""",
    "debug_name": """
        VarHandleOp""",
    "dtype": """
        Dequantize""",
    "ensure_minimum_range": """
        QuantizeV2""",
    "explicit_paddings": """
        DepthwiseConv2dNative DepthwiseConv2dNativeBackpropFilter
        DepthwiseConv2dNativeBackpropInput MaxPool MaxPoolGrad""",
    "exponential_avg_factor": """
        FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3""",
    "grad_a": """
        MatMul""",
    "grad_b": """
        MatMul""",
    "grad_x": """
        BatchMatMul BatchMatMulV2""",
    "grad_y": """
        BatchMatMul BatchMatMulV2""",
    "index_type": """
        TopKV2""",
    "narrow_range": """
        Dequantize QuantizeV2""",
    "offset": """
        InitializeTableFromTextFile InitializeTableFromTextFileV2""",
    "padding_list": """
        QuantizedDepthwiseConv2DWithBiasAndRelu
        QuantizedDepthwiseConv2DWithBiasAndReluAndRequantize""",
    "perturb_singular": """
        TridiagonalSolve""",
    "resize_if_index_out_of_bounds": """
        TensorListSetItem""",
    "shape_type": """
        ConcatOffset""",
    "sparse_gradient": """
        SparseSegmentMean SparseSegmentMeanWithNumSegments
        SparseSegmentSqrtN SparseSegmentSqrtNWithNumSegments
        SparseSegmentSum SparseSegmentSumWithNumSegments""",
    "validate_shape": """
        AssignVariableOp""",
}

#: The types of all ops that can be exported.
OPS = frozenset("""
Abort Abs AccumulateNV2 AccumulatorNumAccumulated AccumulatorSetGlobalStep
AccumulatorTakeGradient Acos Acosh Add AddManySparseToTensorsMap AddN
AddSparseToTensorsMap AddV2 AdjustContrast AdjustContrastv2 AdjustHue
AdjustSaturation All AllCandidateSampler AllToAll Angle AnonymousMemoryCache
AnonymousRandomSeedGenerator Any ApproximateEqual ArgMax ArgMin AsString Asin
Asinh Assert Assign AssignAdd AssignAddVariableOp AssignSub AssignSubVariableOp
AssignVariableOp Atan Atan2 Atanh AudioSpectrogram AudioSummary AudioSummaryV2
AvgPool AvgPool3D AvgPool3DGrad AvgPoolGrad Barrier BarrierClose
BarrierIncompleteSize BarrierInsertMany BarrierReadySize BarrierTakeMany Batch
BatchCholesky BatchCholeskyGrad BatchFFT BatchFFT2D BatchFFT3D BatchIFFT
BatchIFFT2D BatchIFFT3D BatchMatMul BatchMatMulV2 BatchMatrixBandPart
BatchMatrixDeterminant BatchMatrixDiag BatchMatrixDiagPart BatchMatrixInverse
BatchMatrixSetDiag BatchMatrixSolve BatchMatrixSolveLs
BatchMatrixTriangularSolve BatchNormWithGlobalNormalization
BatchNormWithGlobalNormalizationGrad BatchSelfAdjointEig BatchSelfAdjointEigV2
BatchSvd BatchToSpace BatchToSpaceND BesselI0e BesselI1e Betainc BiasAdd
BiasAddGrad BiasAddV1 Bincount Bitcast BitwiseAnd BitwiseOr BitwiseXor BlockLSTM
BlockLSTMGrad BlockLSTMGradV2 BlockLSTMV2 BroadcastArgs BroadcastGradientArgs
BroadcastTo Bucketize CTCBeamSearchDecoder CTCGreedyDecoder CTCLoss Case Cast
Ceil CheckNumerics Cholesky CholeskyGrad ClipByValue CloseSummaryWriter
CombinedNonMaxSuppression CompareAndBitpack Complex ComplexAbs
ComputeAccidentalHits Concat ConcatOffset ConcatV2 ConditionalAccumulator Conj
ConjugateTranspose Const ConsumeMutexLock ControlTrigger Conv2D
Conv2DBackpropFilter Conv2DBackpropInput Conv3D Conv3DBackpropFilter
Conv3DBackpropFilterV2 Conv3DBackpropInput Conv3DBackpropInputV2 Cos Cosh
CountUpTo CreateSummaryDbWriter CreateSummaryFileWriter CropAndResize
CropAndResizeGradBoxes CropAndResizeGradImage Cross CrossReplicaSum CudnnRNN
CudnnRNNBackprop CudnnRNNBackpropV2 CudnnRNNBackpropV3 CudnnRNNCanonicalToParams
CudnnRNNCanonicalToParamsV2 CudnnRNNParamsSize CudnnRNNParamsToCanonical
CudnnRNNParamsToCanonicalV2 CudnnRNNV2 CudnnRNNV3 Cumprod Cumsum
CumulativeLogsumexp DataFormatDimMap DataFormatVecPermute DebugGradientIdentity
DebugGradientRefIdentity DecodeAndCropJpeg DecodeBase64 DecodeBmp DecodeCSV
DecodeCompressed DecodeGif DecodeJSONExample DecodeJpeg DecodePaddedRaw
DecodePng DecodeProtoV2 DecodeRaw DecodeWav DeepCopy DeleteMemoryCache
DeleteRandomSeedGenerator DeleteSessionTensor DenseToDenseSetOperation
DenseToSparseSetOperation DepthToSpace DepthwiseConv2dNative
DepthwiseConv2dNativeBackpropFilter DepthwiseConv2dNativeBackpropInput
Dequantize DeserializeManySparse DeserializeSparse DestroyResourceOp
DestroyTemporaryVariable Diag DiagPart Digamma Dilation2D
Dilation2DBackpropFilter Dilation2DBackpropInput Div DivNoNan DrawBoundingBoxes
DrawBoundingBoxesV2 DynamicPartition DynamicStitch EagerPyFunc EditDistance
Einsum Elu EluGrad Empty EmptyTensorList EncodeBase64 EncodeJpeg
EncodeJpegVariableQuality EncodePng EncodeProto EncodeWav EnsureShape Enter
Equal Erf Erfc EuclideanNorm Exit Exp ExpandDims
ExperimentalStatsAggregatorHandle ExperimentalStatsAggregatorSummary
ExperimentalThreadPoolHandle Expm1 ExtractGlimpse ExtractImagePatches
ExtractJpegShape ExtractVolumePatches FFT FFT2D FFT3D FIFOQueue FIFOQueueV2 Fact
FakeParam FakeQuantWithMinMaxArgs FakeQuantWithMinMaxArgsGradient
FakeQuantWithMinMaxVars FakeQuantWithMinMaxVarsGradient
FakeQuantWithMinMaxVarsPerChannel FakeQuantWithMinMaxVarsPerChannelGradient
FakeQueue Fill Fingerprint FixedLengthRecordReader FixedLengthRecordReaderV2
FixedUnigramCandidateSampler Floor FloorDiv FloorMod FlushSummaryWriter For
FractionalAvgPool FractionalAvgPoolGrad FractionalMaxPool FractionalMaxPoolGrad
FusedBatchNorm FusedBatchNormGrad FusedBatchNormGradV2 FusedBatchNormGradV3
FusedBatchNormV2 FusedBatchNormV3 FusedPadConv2D FusedResizeAndPadConv2D
GRUBlockCell GRUBlockCellGrad Gather GatherNd GatherV2 GenerateVocabRemapping
GetSessionHandle GetSessionHandleV2 GetSessionTensor Greater GreaterEqual
GuaranteeConst HSVToRGB HashTable HashTableV2 HistogramFixedWidth
HistogramSummary IFFT IFFT2D IFFT3D IRFFT IRFFT2D IRFFT3D Identity IdentityN
IdentityReader IdentityReaderV2 If Igamma IgammaGradA Igammac Imag ImageSummary
ImmutableConst ImportEvent InTopK InTopKV2 InfeedDequeue InfeedDequeueTuple
InfeedEnqueue InfeedEnqueuePrelinearizedBuffer InfeedEnqueueTuple
InitializeTable InitializeTableFromTextFile InitializeTableFromTextFileV2
InitializeTableV2 InplaceAdd InplaceSub InplaceUpdate Inv InvGrad Invert
InvertPermutation IsFinite IsInf IsNan IsVariableInitialized L2Loss LMDBReader
LRN LRNGrad LSTMBlockCell LSTMBlockCellGrad LeakyRelu LeakyReluGrad
LearnedUnigramCandidateSampler LeftShift Less LessEqual Lgamma LinSpace ListDiff
LoadAndRemapMatrix Log Log1p LogMatrixDeterminant LogSoftmax
LogUniformCandidateSampler LogicalAnd LogicalNot LogicalOr LookupTableExport
LookupTableExportV2 LookupTableFind LookupTableFindV2 LookupTableImport
LookupTableImportV2 LookupTableInsert LookupTableInsertV2 LookupTableRemoveV2
LookupTableSize LookupTableSizeV2 LoopCond LowerBound Lu MapClear MapDefun
MapIncompleteSize MapPeek MapSize MapStage MapUnstage MapUnstageNoKey MatMul
MatchingFiles MatrixBandPart MatrixDeterminant MatrixDiag MatrixDiagPart
MatrixDiagPartV2 MatrixDiagV2 MatrixExponential MatrixInverse MatrixLogarithm
MatrixSetDiag MatrixSetDiagV2 MatrixSolve MatrixSolveLs MatrixSquareRoot
MatrixTriangularSolve Max MaxPool MaxPool3D MaxPool3DGrad MaxPool3DGradGrad
MaxPoolGrad MaxPoolGradGrad MaxPoolGradGradV2 MaxPoolGradGradWithArgmax
MaxPoolGradV2 MaxPoolGradWithArgmax MaxPoolV2 MaxPoolWithArgmax Maximum Mean
Merge MergeSummary MergeV2Checkpoints Mfcc Min Minimum MirrorPad MirrorPadGrad
Mod Mul MulNoNan Multinomial MutableDenseHashTable MutableDenseHashTableV2
MutableHashTable MutableHashTableOfTensors MutableHashTableOfTensorsV2
MutableHashTableV2 MutexLock MutexV2 NcclAllReduce NcclBroadcast NcclReduce Neg
NextAfter NextIteration NoOp NonDeterministicInts NonMaxSuppression
NonMaxSuppressionV2 NonMaxSuppressionV3 NonMaxSuppressionV4 NonMaxSuppressionV5
NonMaxSuppressionWithOverlaps NotEqual NthElement OneHot OnesLike
OptionalFromValue OptionalGetValue OptionalHasValue OptionalNone OrderedMapClear
OrderedMapIncompleteSize OrderedMapPeek OrderedMapSize OrderedMapStage
OrderedMapUnstage OrderedMapUnstageNoKey OutfeedDequeue OutfeedDequeueTuple
OutfeedEnqueue OutfeedEnqueueTuple Pack Pad PadV2 PaddingFIFOQueue
PaddingFIFOQueueV2 ParallelConcat ParallelDynamicStitch
ParameterizedTruncatedNormal ParseExample ParseSequenceExample
ParseSingleExample ParseSingleSequenceExample ParseTensor PartitionedCall
Placeholder PlaceholderV2 PlaceholderWithDefault Polygamma PopulationCount Pow
Prelinearize PrelinearizeTuple PreventGradient Print PrintV2 PriorityQueue
PriorityQueueV2 Prod PyFunc PyFuncStateless Qr QuantizeAndDequantize
QuantizeAndDequantizeV2 QuantizeAndDequantizeV3 QuantizeDownAndShrinkRange
QuantizeV2 QuantizedAdd QuantizedAvgPool
QuantizedBatchNormWithGlobalNormalization QuantizedBiasAdd QuantizedConcat
QuantizedConv2D QuantizedConv2DAndRelu QuantizedConv2DAndReluAndRequantize
QuantizedConv2DAndRequantize QuantizedConv2DPerChannel QuantizedConv2DWithBias
QuantizedConv2DWithBiasAndRelu QuantizedConv2DWithBiasAndReluAndRequantize
QuantizedConv2DWithBiasAndRequantize
QuantizedConv2DWithBiasSignedSumAndReluAndRequantize
QuantizedConv2DWithBiasSumAndRelu QuantizedConv2DWithBiasSumAndReluAndRequantize
QuantizedDepthwiseConv2D QuantizedDepthwiseConv2DWithBias
QuantizedDepthwiseConv2DWithBiasAndRelu
QuantizedDepthwiseConv2DWithBiasAndReluAndRequantize QuantizedInstanceNorm
QuantizedMatMul QuantizedMatMulWithBias QuantizedMatMulWithBiasAndRelu
QuantizedMatMulWithBiasAndReluAndRequantize QuantizedMaxPool QuantizedMul
QuantizedRelu QuantizedRelu6 QuantizedReluX QuantizedReshape
QuantizedResizeBilinear QueueClose QueueCloseV2 QueueDequeue QueueDequeueMany
QueueDequeueManyV2 QueueDequeueUpTo QueueDequeueUpToV2 QueueDequeueV2
QueueEnqueue QueueEnqueueMany QueueEnqueueManyV2 QueueEnqueueV2 QueueIsClosed
QueueIsClosedV2 QueueSize QueueSizeV2 RFFT RFFT2D RFFT3D RGBToHSV RaggedGather
RaggedRange RaggedTensorFromVariant RaggedTensorToSparse RaggedTensorToTensor
RaggedTensorToVariant RandomCrop RandomGamma RandomGammaGrad RandomPoisson
RandomPoissonV2 RandomShuffle RandomShuffleQueue RandomShuffleQueueV2
RandomStandardNormal RandomUniform RandomUniformInt Range Rank ReadFile
ReadVariableOp ReaderNumRecordsProduced ReaderNumRecordsProducedV2
ReaderNumWorkUnitsCompleted ReaderNumWorkUnitsCompletedV2 ReaderRead
ReaderReadUpTo ReaderReadUpToV2 ReaderReadV2 ReaderReset ReaderResetV2
ReaderRestoreState ReaderRestoreStateV2 ReaderSerializeState
ReaderSerializeStateV2 Real RealDiv Reciprocal ReciprocalGrad RecordInput
ReduceJoin RefEnter RefExit RefIdentity RefMerge RefNextIteration RefSelect
RefSwitch RegexFullMatch RegexReplace Relu Relu6 Relu6Grad ReluGrad RemoteCall
RequantizationRange RequantizationRangePerChannel Requantize
RequantizePerChannel Reshape ResizeArea ResizeBicubic ResizeBicubicGrad
ResizeBilinear ResizeBilinearGrad ResizeNearestNeighbor
ResizeNearestNeighborGrad ResourceAccumulatorNumAccumulated
ResourceAccumulatorSetGlobalStep ResourceAccumulatorTakeGradient
ResourceConditionalAccumulator ResourceCountUpTo ResourceGather ResourceGatherNd
ResourceScatterAdd ResourceScatterDiv ResourceScatterMax ResourceScatterMin
ResourceScatterMul ResourceScatterNdAdd ResourceScatterNdSub
ResourceScatterNdUpdate ResourceScatterSub ResourceScatterUpdate
ResourceStridedSliceAssign Restore RestoreSlice RestoreV2 Reverse
ReverseSequence ReverseV2 RightShift Rint RngSkip Roll Round Rsqrt RsqrtGrad
SampleDistortedBoundingBox SampleDistortedBoundingBoxV2 Save SaveSlices SaveV2
ScalarSummary ScaleAndTranslate ScaleAndTranslateGrad ScatterAdd ScatterDiv
ScatterMax ScatterMin ScatterMul ScatterNd ScatterNdAdd ScatterNdNonAliasingAdd
ScatterNdSub ScatterNdUpdate ScatterSub ScatterUpdate SdcaFprint SdcaOptimizer
SdcaOptimizerV2 SdcaShrinkL1 SegmentMax SegmentMean SegmentMin SegmentProd
SegmentSum Select SelectV2 SelfAdjointEig SelfAdjointEigV2 Selu SeluGrad
SerializeManySparse SerializeSparse SerializeTensor SetSize Shape ShapeN
ShardedFilename ShardedFilespec Sigmoid SigmoidGrad Sign Sin Sinh Size Slice
Snapshot Softmax SoftmaxCrossEntropyWithLogits Softplus SoftplusGrad Softsign
SoftsignGrad SpaceToBatch SpaceToBatchND SpaceToDepth
SparseAccumulatorTakeGradient SparseAdd SparseAddGrad SparseConcat
SparseConditionalAccumulator SparseCross SparseDenseCwiseAdd SparseDenseCwiseDiv
SparseDenseCwiseMul SparseFillEmptyRows SparseFillEmptyRowsGrad SparseMatMul
SparseReduceMax SparseReduceMaxSparse SparseReduceSum SparseReduceSumSparse
SparseReorder SparseReshape SparseSegmentMean SparseSegmentMeanGrad
SparseSegmentMeanWithNumSegments SparseSegmentSqrtN SparseSegmentSqrtNGrad
SparseSegmentSqrtNWithNumSegments SparseSegmentSum
SparseSegmentSumWithNumSegments SparseSlice SparseSliceGrad SparseSoftmax
SparseSoftmaxCrossEntropyWithLogits SparseSparseMaximum SparseSparseMinimum
SparseSplit SparseTensorDenseAdd SparseTensorDenseMatMul SparseToDense
SparseToSparseSetOperation Split SplitV Sqrt SqrtGrad Square SquaredDifference
Squeeze Stack StackClose StackCloseV2 StackPop StackPopV2 StackPush StackPushV2
StackV2 Stage StageClear StagePeek StageSize StatefulPartitionedCall
StatefulRandomBinomial StatefulStandardNormal StatefulStandardNormalV2
StatefulTruncatedNormal StatefulUniform StatefulUniformFullInt
StatefulUniformInt StatelessIf StatelessMultinomial StatelessRandomNormal
StatelessRandomUniform StatelessRandomUniformInt StatelessTruncatedNormal
StatelessWhile StaticRegexFullMatch StaticRegexReplace StatsAggregatorHandle
StatsAggregatorHandleV2 StatsAggregatorSetSummaryWriter StatsAggregatorSummary
StopGradient StridedSlice StridedSliceAssign StridedSliceGrad StringFormat
StringJoin StringLength StringLower StringNGrams StringSplit StringSplitV2
StringStrip StringToHashBucket StringToHashBucketFast StringToHashBucketStrong
StringToNumber StringUpper Sub Substr Sum SummaryWriter Svd Switch
SymbolicGradient TFRecordReader TFRecordReaderV2 TakeManySparseFromTensorsMap
Tan Tanh TanhGrad TemporaryVariable TensorArray TensorArrayClose
TensorArrayCloseV2 TensorArrayCloseV3 TensorArrayConcat TensorArrayConcatV2
TensorArrayConcatV3 TensorArrayGather TensorArrayGatherV2 TensorArrayGatherV3
TensorArrayGrad TensorArrayGradV2 TensorArrayGradV3 TensorArrayGradWithShape
TensorArrayPack TensorArrayRead TensorArrayReadV2 TensorArrayReadV3
TensorArrayScatter TensorArrayScatterV2 TensorArrayScatterV3 TensorArraySize
TensorArraySizeV2 TensorArraySizeV3 TensorArraySplit TensorArraySplitV2
TensorArraySplitV3 TensorArrayUnpack TensorArrayV2 TensorArrayV3
TensorArrayWrite TensorArrayWriteV2 TensorArrayWriteV3 TensorListConcat
TensorListConcatLists TensorListConcatV2 TensorListElementShape
TensorListFromTensor TensorListGather TensorListGetItem TensorListLength
TensorListPopBack TensorListPushBack TensorListPushBackBatch TensorListReserve
TensorListResize TensorListScatter TensorListScatterIntoExistingList
TensorListScatterV2 TensorListSetItem TensorListSplit TensorListStack
TensorScatterAdd TensorScatterSub TensorScatterUpdate TensorStridedSliceUpdate
TensorSummary TensorSummaryV2 TextLineReader TextLineReaderV2 ThreadPoolHandle
ThreadUnsafeUnigramCandidateSampler Tile TileGrad Timestamp TopK TopKV2
Transpose TridiagonalMatMul TridiagonalSolve TruncateDiv TruncateMod
TruncatedNormal Unbatch UnbatchGrad UnicodeDecode UnicodeDecodeWithOffsets
UnicodeEncode UnicodeScript UnicodeTranscode UniformCandidateSampler Unique
UniqueV2 UniqueWithCounts UniqueWithCountsV2 Unpack UnravelIndex
UnsortedSegmentJoin UnsortedSegmentMax UnsortedSegmentMin UnsortedSegmentProd
UnsortedSegmentSum Unstage UpperBound VarHandleOp VarIsInitializedOp Variable
VariableShape VariableV2 Where While WholeFileReader WholeFileReaderV2
WorkerHeartbeat WriteAudioSummary WriteFile WriteGraphSummary
WriteHistogramSummary WriteImageSummary WriteRawProtoSummary WriteScalarSummary
WriteSummary Xdivy Xlogy ZerosLike Zeta
""".split())
