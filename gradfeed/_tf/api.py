"""The module of TensorFlow, its version, and types of protocol buffers."""

import importlib

from gradfeed import errors

try:
  import tensorflow.compat.v1 as tf
except ImportError as _error:
  raise errors.DependencyError(
      "gradfeed needs TensorFlow, which cannot be imported ({}).".format(
          _error),
      "TensorFlow is left to you, so that installing gradfeed never replaces "
      "the tensorflow, tensorflow-cpu or tensorflow-gpu of a project.",
      "pip install 'gradfeed[tf]' (or the TensorFlow that your project uses, "
      "1.15 to 2.x).") from _error
# pylint: disable=g-direct-tensorflow-import, wrong-import-position
from tensorflow.core.framework import op_def_pb2
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import indexed_slices
from tensorflow.python.saved_model import loader_impl

CheckpointState = type(tf.train.generate_checkpoint_state_proto(".", "model"))
IndexedSlicesValue = indexed_slices.IndexedSlicesValue
SavedModel = saved_model_pb2.SavedModel
SignatureDef = meta_graph_pb2.SignatureDef
TensorProto = tensor_pb2.TensorProto
SavedModelLoader = loader_impl.SavedModelLoader
#: From a MetaGraphDef in the default graph to the op that loading it runs.
main_op = loader_impl.get_init_op

VERSION = tf.__version__
HAS_HANDLE_DATA = "handle_data" in (
    op_def_pb2.OpDef.ArgDef.DESCRIPTOR.fields_by_name)
IS_TF2 = not VERSION.startswith("1.")


def api_of_v2():
  """The module with the names of TF 2, in any version."""
  return importlib.import_module("tensorflow.compat.v2")


#: The name scope of every op that gradfeed adds, with the closing slash that
#: makes `tf.name_scope` take it as it stands.
SCOPE = "gradfeed/"


def records(path):
  """Iterates over the records of a TFRecord file, bytes each.

  Raises:
    tf.errors.DataLossError: the file is damaged.
  """
  options = tf.io.TFRecordOptions(
      tf.io.TFRecordCompressionType.GZIP if path.endswith(".gz") else
      tf.io.TFRecordCompressionType.NONE)
  # The iterator itself, without its advice to use eager execution.
  return tf.io.tf_record_iterator.__wrapped__(path, options)
