"""The gradient of any tensor of a TensorFlow 1 graph, at any value.

Verbs turn tensors into tensors; `function` turns tensors into a callable:

>>> import gradfeed as gf, tensorflow.compat.v1 as tf
>>> with tf.Graph().as_default(), tf.Session() as session:
...   x = tf.placeholder(tf.float64, [])
...   f = gf.function(x, gf.gradient(x ** 3, x))
...   print(f(2.0), f(10.0))
12.0 300.0
"""

import importlib

from gradfeed.derivatives.gradients import gradient
from gradfeed.derivatives.gradients import gradients
from gradfeed.derivatives.gradients import value_and_gradient
from gradfeed.derivatives.gradients import vjp
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
from gradfeed.errors import IncompleteGradientError
from gradfeed.errors import MissingFeedError
from gradfeed.errors import MissingGradientError
from gradfeed.errors import ModelFileError
from gradfeed.errors import SessionError
from gradfeed.errors import SparsityError
from gradfeed.errors import StreamError
from gradfeed.errors import TangentError
from gradfeed.errors import TensorNotFoundError
from gradfeed.errors import TimeLimitError
from gradfeed.errors import UninitializedError
from gradfeed.errors import UnsupportedGraphError
from gradfeed.evaluation.functions import Function
from gradfeed.evaluation.making import function
from gradfeed.evaluation.session_run import run
from gradfeed.findings import Finding
from gradfeed.patching.installation import install
from gradfeed.patching.installation import patched
from gradfeed.patching.installation import uninstall
from gradfeed.patching.sessions import InteractiveSession
from gradfeed.patching.sessions import Session

__version__ = "0.1.0"

#: Public names whose modules are imported when the name is used first, so that
#: a program that only differentiates and calls starts sooner.
_WHEN_USED = {
    "Audit": "gradfeed.auditing.audits",
    "audit": "gradfeed.auditing.audits",
    "check": "gradfeed.checking.checks",
    "Check": "gradfeed.checking.reports",
    "compare": "gradfeed.comparing.comparisons",
    "Comparison": "gradfeed.comparing.reports",
    "hessian": "gradfeed.derivatives.hessians",
    "hessians": "gradfeed.derivatives.hessians",
    "hvp": "gradfeed.derivatives.hessians",
    "jacobian": "gradfeed.derivatives.jacobians",
    "jvp": "gradfeed.derivatives.jacobians",
    "batch_jacobian": "gradfeed.derivatives.rows.batch_jacobians",
    "class_gradient": "gradfeed.derivatives.rows.class_gradients",
    "per_example_gradient": "gradfeed.derivatives.rows.per_example_gradients",
    "fisher_vector_product": "gradfeed.derivatives.vectors.curvature_products",
    "gauss_newton_vector_product":
        "gradfeed.derivatives.vectors.curvature_products",
    "flatten": "gradfeed.derivatives.vectors.flattening",
    "unflatten": "gradfeed.derivatives.vectors.flattening",
    "explain": "gradfeed.explaining.explanations",
    "Explanation": "gradfeed.explaining.explanations",
    "Export": "gradfeed.migration.exports.exporting",
    "export": "gradfeed.migration.exports.exporting",
    "LegacyModule": "gradfeed.migration.modules",
    "to_module": "gradfeed.migration.modules",
    "load": "gradfeed.models.loading",
    "Model": "gradfeed.models.loading",
    "Snapshot": "gradfeed.models.snapshots",
    "snapshot": "gradfeed.models.snapshots",
    "minimize": "gradfeed.optimization.minimizing",
    "scipy_objective": "gradfeed.optimization.objectives",
    "ScipyObjective": "gradfeed.optimization.objectives",
    "Report": "gradfeed.streaming.streams",
    "stream": "gradfeed.streaming.streams",
}

__all__ = list(_WHEN_USED) + [
    name for name, thing in list(globals().items())
    if getattr(thing, "__module__", "").startswith("gradfeed.")]


#: Packages of the face that are imported when their name is used first.
_PACKAGES = ("shards",)


def __getattr__(name):
  if name in _PACKAGES:
    return importlib.import_module("gradfeed." + name)
  if name not in _WHEN_USED:
    raise AttributeError(
        "module 'gradfeed' has no attribute {!r}".format(name))
  thing = getattr(importlib.import_module(_WHEN_USED[name]), name)
  globals()[name] = thing
  return thing


def __dir__():
  return sorted(set(globals()) | set(_WHEN_USED) | set(_PACKAGES))
