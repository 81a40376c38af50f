"""Refuses what would run code in the configuration of a model of Keras.

Keras builds what a configuration names: it takes classes and functions out of
any module, and runs the bytecode in Lambda layers. What is built here is on a
list of layers, initializers, regularizers, constraints and activations that
Keras itself has; anything else is refused before Keras sees it.
"""

import re

from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.models import outside_ops


def _words(text):
  return frozenset(text.split())


_MODELS = _words("Functional Model Network Sequential")

_LAYERS = _words("""
    Activation ActivityRegularization Add AdditiveAttention AlphaDropout
    Attention AtrousConvolution1D AtrousConvolution2D Average
    BatchNormalization BatchNormalizationV1 BatchNormalizationV2 Bidirectional
    CategoryEncoding CenterCrop Concatenate CuDNNGRU CuDNNLSTM Deconvolution2D
    Deconvolution3D Dense DepthwiseConv1D DepthwiseConv2D DepthwiseConv3D
    Discretization Dot Dropout ELU EinsumDense Embedding Flatten GRU GRUCell
    GRUCellV1 GRUCellV2 GRUV1 GRUV2 GaussianDropout GaussianNoise
    GroupNormalization Identity InputLayer LSTM LSTMCell LSTMCellV1 LSTMCellV2
    LSTMV1 LSTMV2 LayerNormalization LeakyReLU LocallyConnected1D
    LocallyConnected2D Masking Maximum Minimum MultiHeadAttention Multiply
    Normalization PReLU Permute RNN RandomBrightness RandomContrast RandomCrop
    RandomFlip RandomHeight RandomRotation RandomTranslation RandomWidth
    RandomZoom ReLU RepeatVector Rescaling Reshape Resizing SeparableConv1D
    SeparableConv2D SeparableConvolution1D SeparableConvolution2D SimpleRNN
    SimpleRNNCell Softmax SpatialDropout1D SpatialDropout2D SpatialDropout3D
    SpectralNormalization StackedRNNCells Subtract SyncBatchNormalization
    TensorFlowOpLayer ThresholdedReLU TimeDistributed UnitNormalization
    """) | frozenset(
        name.format(rank) for rank in (1, 2, 3) for name in _words("""
    AveragePooling{}D AvgPool{}D Conv{}D Conv{}DTranspose ConvLSTM{}D
    Convolution{}D Convolution{}DTranspose Cropping{}D GlobalAveragePooling{}D
    GlobalAvgPool{}D GlobalMaxPool{}D GlobalMaxPooling{}D MaxPool{}D
    MaxPooling{}D UpSampling{}D ZeroPadding{}D"""))

_ACTIVATIONS = _words("""
    elu exponential gelu hard_sigmoid leaky_relu linear log_softmax mish relu
    relu6 selu sigmoid silu softmax softmax_v2 softplus softsign swish tanh""")

_INITIALIZERS = _words("""
    Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity LecunNormal
    LecunUniform Ones Orthogonal RandomNormal RandomUniform TruncatedNormal
    VarianceScaling Zeros constant glorot_normal glorot_uniform he_normal
    he_uniform identity lecun_normal lecun_uniform normal one ones orthogonal
    random_normal random_uniform truncated_normal uniform variance_scaling zero
    zeros""")

_REGULARIZERS = _words("""
    L1 L1L2 L2 OrthogonalRegularizer l1 l1_l2 l2 orthogonal_regularizer""")

_CONSTRAINTS = _words("""
    MaxNorm MinMaxNorm NonNeg RadialConstraint UnitNorm max_norm maxnorm
    min_max_norm minmaxnorm non_neg nonneg radial_constraint unit_norm
    unitnorm""")

#: Marks of plain data, and the dtypes of mixed precision.
_DATA = _words("""
    AutoCastPolicy DTypePolicy Policy PolicyV1 TensorShape __bytes__
    __ellipsis__ __numpy__ __tensor__ __tuple__""")

_CLASSES = (_MODELS | _LAYERS | _DATA | _REGULARIZERS | _CONSTRAINTS |
            _INITIALIZERS | frozenset(
                name + version for name in _INITIALIZERS
                for version in ("V1", "V2")))

#: What a key that ends so may name, as text.
_NAMED = {
    "activation": _ACTIVATIONS,
    "constraint": _CONSTRAINTS,
    "initializer": _INITIALIZERS,
    "regularizer": _REGULARIZERS,
}

#: Layers that are a Python function; and what it is to Keras.
_CODE = {
    "ClassMethod": "a call of a method of a Python class",
    "Lambda": "a Lambda, whose Python code is in the file",
    "SlicingOpLambda": "a call of a Python function",
    "TFOpLambda": "a call of a Python function",
    "__lambda__": "Python code in the file",
    "function": "a Python function",
}

_MODULES = re.compile(
    r"^(tf_|tensorflow\.(python\.|compat\.v1\.)?)?keras(\.(src\.)?(models|"
    r"layers|initializers|regularizers|constraints|activations|engine|"
    r"mixed_precision)(\.[a-z0-9_]+)*)?$")


def check(path, config):
  """Refuses a configuration that names what is not on the list.

  Args:
    path: str, for the error.
    config: dict, the configuration of a model, as it is in the file. How parts
      of it are trained is taken out.

  Raises:
    UnsupportedGraphError: it names Python code, a class or a function that
      Keras does not have, or an op that reaches outside of the graph; says
      which. Or its parts are nested too deep.
  """
  try:
    _check(path, config, None, "")
  except RecursionError:
    raise errors.UnsupportedGraphError(
        "The model in '{}' cannot be built.".format(path),
        "The layers in its configuration are nested too deep.",
        "Save the model as a SavedModel where it was built.") from None


def _check(path, config, layer, key):
  """Refuses what a part of a configuration names.

  Args:
    path: str, for the error.
    config: the part, as JSON has it.
    layer: str, the name of the innermost layer around it; or None.
    key: str, what the part is the value of.
  """
  if isinstance(config, dict):
    inner = config.get("config")
    if isinstance(inner, dict) and isinstance(inner.get("name"), str):
      layer = inner["name"]
    # Losses and optimizers, which are not needed here.
    config.pop("compile_config", None)
    _check_object(path, config, layer)
    for name, value in config.items():
      _check(path, value, layer, name)
  elif isinstance(config, list):
    for value in config:
      _check(path, value, layer, key)
  elif isinstance(config, str):
    allowed = _NAMED.get(key.rpartition("_")[2])
    if allowed is not None and config not in allowed:
      raise _refusal(path, layer, "Its {} is '{}', which is none that Keras "
                     "has by that name".format(key, config))


def _check_object(path, config, layer):
  """Refuses a dict that names a class, a module or an op not on the list."""
  if "class_name" in config or "registered_name" in config:
    of = config.get("class_name")
    if of == "function" and config.get("config") in _ACTIVATIONS and (
        config.get("module") in (None, "builtins", "keras.activations")) and (
            config.get("registered_name") in (None, config["config"])):
      return
    if not isinstance(of, str) or of not in _CLASSES:
      raise _refusal(path, layer, (
          "It is {}: it would be run here, and fits one version of Python "
          "alone".format(_CODE[of]) if isinstance(of, str) and of in _CODE else
          "It names {!r}, which is no class of Keras that is known to run no "
          "code".format(of)))
    registered = config.get("registered_name")
    if registered not in (None, of, "keras>" + of):
      raise _refusal(path, layer, "It names {!r}, a class of the process that "
                     "wrote the file".format(registered))
    if of == "TensorFlowOpLayer":
      _check_op(path, config.get("config"), layer)
  if "module" in config:
    module = config["module"]
    if module is not None and not (
        isinstance(module, str) and _MODULES.match(module)):
      raise _refusal(path, layer, "It names the Python module {!r}, which is "
                     "not one of Keras".format(module))
  if "function_type" in config or "output_shape_type" in config:
    raise _refusal(path, layer, "It holds Python code")


def _check_op(path, config, layer):
  """Refuses an op in a layer that reaches outside of the graph."""
  node = config.get("node_def") if isinstance(config, dict) else None
  try:
    if isinstance(node, str):
      node_def = tf.NodeDef.FromString(node.encode("utf-8"))
      op_type, attributes = node_def.op, node_def.attr
    else:
      op_type, attributes = node["op"], node.get("attr", {})
    if not isinstance(op_type, str):
      raise TypeError
  except Exception:  # Which class it is depends on the version of protobuf.
    raise _refusal(path, layer, "It is an op, and no NodeDef of it is in the "
                   "file") from None
  if outside_ops.reach_of(op_type) or "_gradient_op_type" in attributes:
    raise _refusal(path, layer, "It is an op, {}, which reaches outside of the "
                   "model".format(op_type))


def _refusal(path, layer, why):
  return errors.UnsupportedGraphError(
      "The {} of '{}' cannot be built.".format(
          "layer '{}'".format(layer) if layer else "model", path),
      why + ".",
      "Layers, functions and code of your own are not loaded from a file of "
      "Keras: save the model as a SavedModel where it was built, as a graph "
      "needs no code.")
