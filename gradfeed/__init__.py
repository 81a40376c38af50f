"""The gradient of any tensor of a TensorFlow 1 graph, at any value.

Verbs turn tensors into tensors; `function` turns tensors into a callable:

>>> import gradfeed as gf, tensorflow.compat.v1 as tf
>>> with tf.Graph().as_default(), tf.Session() as session:
...   x = tf.placeholder(tf.float64, [])
...   f = gf.function(x, gf.gradient(x ** 3, x))
...   print(f(2.0), f(10.0))
12.0 300.0
"""

from gradfeed.batches import batch_jacobian
from gradfeed.checking import check
from gradfeed.checks.verdicts import Check
from gradfeed.classes import class_gradient
from gradfeed.curvatures import hessian
from gradfeed.curvatures import hvp
from gradfeed.derivatives import gradient
from gradfeed.derivatives import gradients
from gradfeed.derivatives import value_and_gradient
from gradfeed.derivatives import vjp
from gradfeed.diagnosis import Explanation
from gradfeed.diagnosis import explain
from gradfeed.errors import ArgumentError
from gradfeed.errors import AssignmentError
from gradfeed.errors import CotangentError
from gradfeed.errors import CoupledRowsError
from gradfeed.errors import DependencyError
from gradfeed.errors import DisconnectedError
from gradfeed.errors import EagerModeError
from gradfeed.errors import FeedError
from gradfeed.errors import FinalizedGraphError
from gradfeed.errors import GradfeedError
from gradfeed.errors import GradfeedWarning
from gradfeed.errors import GraphMismatchError
from gradfeed.errors import GraphTooLargeError
from gradfeed.errors import MissingFeedError
from gradfeed.errors import MissingGradientError
from gradfeed.errors import ModelFileError
from gradfeed.errors import SessionError
from gradfeed.errors import StreamError
from gradfeed.errors import TangentError
from gradfeed.errors import TensorNotFoundError
from gradfeed.errors import TimeLimitError
from gradfeed.errors import UninitializedError
from gradfeed.errors import UnsupportedGraphError
from gradfeed.examples import per_example_gradient
from gradfeed.findings import Finding
from gradfeed.functions import Function
from gradfeed.functions import function
from gradfeed.functions import run
from gradfeed.jacobians import jacobian
from gradfeed.jacobians import jvp
from gradfeed.models import Model
from gradfeed.models import load
from gradfeed.snapshots import Snapshot
from gradfeed.snapshots import snapshot
from gradfeed.streaming import Report
from gradfeed.streaming import stream

__version__ = "0.1.0"
