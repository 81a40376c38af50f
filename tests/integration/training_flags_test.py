"""Layers that take `is_training` as a placeholder, at the value False.

The numbers are those of a network with the same weights that was built with
False. Each layer is tested where its module is installed.
"""

import contextlib
import importlib
import importlib.util
import warnings

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed import _tf
from tests.testing import flows
from tests.testing import graphs

_X = np.array([[0.5, -1.0, 2.0], [2.0, 0.25, -0.5], [-0.75, 1.5, 1.0]],
              np.float32)


def _layers(name):
  """A function of `tf.layers`, or None where there are none."""
  if not _tf.IS_TF2:
    return getattr(tf.layers, name)
  module = "normalization" if name == "batch_normalization" else "core"
  return getattr(importlib.import_module(
      "tf_keras.src.legacy_tf_layers." + module), name)


def _has_layers():
  return not _tf.IS_TF2 or importlib.util.find_spec("tf_keras") is not None


def _contrib():
  return importlib.import_module("tensorflow.contrib.layers")


def _batch_normalization(x, flag, reuse):
  h = _layers("batch_normalization")(
      x, training=flag, name="bn", reuse=reuse, momentum=0.5)
  return tf.nn.sigmoid(h * 3.0)


def _dropout(x, flag, reuse):
  del reuse
  return tf.sin(_layers("dropout")(x, 0.5, training=flag)) ** 2


def _contrib_batch_norm(x, flag, reuse):
  h = _contrib().batch_norm(
      x, is_training=flag, updates_collections=None, scope="bn", scale=True,
      reuse=reuse, decay=0.5)
  return tf.tanh(h) ** 2


def _contrib_dropout(x, flag, reuse):
  del reuse
  return tf.exp(_contrib().dropout(x, 0.5, is_training=flag))


_LAYERS = {"batch_normalization": _batch_normalization, "dropout": _dropout}
_CONTRIB = {"contrib_batch_norm": _contrib_batch_norm,
            "contrib_dropout": _contrib_dropout}


def _cases():
  networks = dict(_LAYERS if _has_layers() else {},
                  **({} if _tf.IS_TF2 else _CONTRIB))
  return [("{}_v{}".format(name, version), networks[name], version)
          for name in sorted(networks) for version in (1, 2)] or [
              ("none", None, 1)]


class TrainingFlagsTest(graphs.GraphTest):

  def _build(self, network, version):
    """x, flag, y with the flag, and y with False."""
    if network is None:
      self.skipTest("There are no such layers here.")
    x = tf.placeholder(tf.float32, [None, 3], name="x")
    flag = tf.placeholder(tf.bool, [], name="is_training")
    with contextlib.ExitStack() as stack:
      stack.enter_context(flows.control_flow(version))
      stack.enter_context(warnings.catch_warnings())
      warnings.simplefilter("ignore")  # That layers are deprecated.
      # Functions of TF 1 capture no references.
      stack.enter_context(tf.variable_scope("net", use_resource=version == 2))
      y = tf.reduce_sum(network(x, flag, False), 1)
      expected = tf.reduce_sum(network(x, False, True), 1)
      self._dx = tf.gradients(expected, x)[0]
    self.initialize()
    for i, v in enumerate(tf.global_variables()):
      v.load(np.linspace(0.5, 1.5, 3) + 0.25 * i, self.session)
    return x, flag, y, expected

  @parameterized.named_parameters(*_cases())
  def test_gradient(self, network, version):
    x, flag, y, expected = self._build(network, version)
    before = self.session.run(tf.global_variables())
    f = gf.function(x, gf.value_and_gradient(y, x), self.session,
                    feed_dict={flag: False})
    self.assertEmpty(f.needs)
    for result, tensor in zip(f(_X), (expected, self._dx)):
      np.testing.assert_allclose(
          result, self.session.run(tensor, {x: _X}), 1e-5, 1e-6)
    for result, tensor in zip(gf.run(
        self.session, gf.value_and_gradient(y, x), {x: _X, flag: False}),
                              (expected, self._dx)):
      np.testing.assert_allclose(
          result, self.session.run(tensor, {x: _X}), 1e-5, 1e-6)
    for old, new in zip(before, self.session.run(tf.global_variables())):
      np.testing.assert_array_equal(old, new)

  @parameterized.named_parameters(*_cases())
  def test_rows(self, network, version):
    x, flag, y, _ = self._build(network, version)
    y = tf.reshape(y, [-1, 1])
    f = gf.function(x, gf.batch_jacobian(y, x), self.session,
                    feed_dict={flag: False})
    np.testing.assert_allclose(
        f(_X)[:, 0], self.session.run(self._dx, {x: _X}), 1e-5, 1e-6)

  @parameterized.named_parameters(*_cases())
  def test_explain_and_check(self, network, version):
    x, flag, y, _ = self._build(network, version)
    report = gf.explain(y, x, feed_dict={flag: False})
    self.assertNoCommonElements(
        [finding.kind for finding in report.findings],
        ["random", "assigning", "coupled", "feed"])
    report = gf.check(y, x, _X, self.session, feed_dict={flag: False})
    self.assertEqual(report.verdict, "right", str(report))

  @parameterized.named_parameters(*_cases())
  def test_with_true_it_is_another_network(self, network, version):
    x, flag, y, expected = self._build(network, version)
    try:
      value = gf.function(x, y, self.session, feed_dict={flag: True})(_X)
    except gf.AssignmentError:
      return  # It would update its averages.
    self.assertFalse(np.allclose(
        value, self.session.run(expected, {x: _X}), 1e-3))


class LearningPhaseTest(graphs.GraphTest):

  @parameterized.named_parameters(("v1", 1), ("v2", 2))
  def test_keras(self, version):
    if _tf.IS_TF2 and not _has_layers():
      self.skipTest("Keras 2 is not installed.")
    keras = importlib.import_module("tf_keras") if _tf.IS_TF2 else tf.keras
    backend = (importlib.import_module("tf_keras.src.backend")
               if _tf.IS_TF2 else keras.backend)
    is_eager = getattr(tf, "executing_eagerly_outside_functions", None)
    if _tf.IS_TF2 and is_eager():
      self.skipTest("The learning phase is a placeholder of graphs alone.")
    backend.set_session(self.session)
    x = tf.placeholder(tf.float32, [None, 3])
    with flows.control_flow(version):
      phase = backend.learning_phase()
      y = tf.reduce_sum(tf.sin(keras.layers.Dropout(0.5)(x)), 1)
    if isinstance(phase, int):
      self.skipTest("The learning phase is a number here.")
    f = gf.function(
        x, gf.gradient(y, x), self.session, feed_dict={phase: False})
    np.testing.assert_allclose(f(_X), np.cos(_X), 1e-5)
    f = gf.function(x, gf.gradient(y, x), self.session)
    np.testing.assert_allclose(f(_X), np.cos(_X), 1e-5)  # The default.
    report = gf.explain(y, x, feed_dict={phase: False})
    self.assertNotIn("random", [finding.kind for finding in report.findings])
