import subprocess
import sys
import threading

import numpy as np
import tensorflow as tf_of_process
import tensorflow.compat.v1 as tf
from tensorflow.python.client import session as session_lib

import gradfeed as gf
from tests import conftest
from tests.testing import folders
from tests.testing import graphs

_ROOTS = ("tensorflow", "tensorflow_core", "keras", "tf_keras")

#: What TensorFlow itself changes when it runs.
_OWN_CHANGES = ("__warningregistry__", "_context", "FLAGS", "ops",
                "constant_op", "_non_mixed_precision_session_created",
                "non_mixed_precision_session_created")


def _attributes():
  """All attributes of the modules and classes of TensorFlow."""
  found = {}
  for name, module in list(sys.modules.items()):
    if name.split(".")[0] in _ROOTS:
      for attribute, value in list(getattr(module, "__dict__", {}).items()):
        if not attribute.startswith(("_fastdict", "_tfmw")) and (
            attribute not in _OWN_CHANGES and attribute != "__all__"):
          found[name, attribute] = value
  for kind in (session_lib.BaseSession, tf.Session, tf.InteractiveSession,
               tf.Tensor, tf.Operation, tf.Variable):
    for attribute, value in vars(kind).items():
      found[kind.__name__, attribute] = value
  return found


def _lists():
  """The names that `from tensorflow import *` takes of each module."""
  return {name: list(module.__all__)
          for name, module in list(sys.modules.items())
          if name.split(".")[0] in _ROOTS and isinstance(
              vars(module).get("__all__"), list)}


def _is_replaced():
  """Whether TensorFlow's functions are replaced, each of them."""
  found = {function.__code__.co_filename.endswith("replacements.py")
           for function in (tf.gradients, tf.hessians, tf_of_process.gradients,
                            session_lib.BaseSession.run, tf.Session.run)}
  assert len(found) == 1, found
  return found.pop()


class InstallationTest(graphs.GraphTest):

  def setUp(self):
    super().setUp()
    self.addCleanup(gf.uninstall)

  def test_afterwards_every_attribute_is_the_same_object(self):
    x = tf.constant(3.0)
    self.session.run(tf.gradients(x * x, x))
    before, lists, finders = _attributes(), _lists(), list(sys.meta_path)
    gf.install()
    changed = {key for key, value in _attributes().items()
               if before.get(key) is not value}
    for name in ("tensorflow", "tensorflow.compat.v1"):
      self.assertIn((name, "gradients"), changed)
      self.assertIn((name, "hessians"), changed)
    self.assertIn(("BaseSession", "run"), changed)
    self.assertEmpty({name for _, name in changed} - {
        "gradients", "hessians", "function", "run"})
    self.assertEmpty([name for name, _ in changed if ".ops." in name])
    self.session.run(tf.gradients(x * x, x))
    gf.uninstall()
    after = _attributes()
    self.assertEmpty([key for key, value in before.items()
                      if after[key] is not value])
    self.assertEqual(_lists(), lists)
    self.assertEqual(sys.meta_path, finders)

  def test_every_module_offers_what_takes_the_places(self):
    x = tf.constant(3.0)
    y = x ** 3
    with gf.patched():
      for module in (tf, tf_of_process, tf_of_process.compat.v1,
                     tf_of_process.compat.v2):
        dx, = module.gradients(y, [x])
        self.assertStartsWith(dx.name, "gradfeed/")
        self.assertEqual(self.session.run(dx), 27.0)
        h, = module.hessians(y, [x])
        self.assertEqual(self.session.run(h), 18.0)
        count = self.count()
        module.gradients(y, [x])
        module.hessians(y, [x])
        self.assertEqual(self.count(), count)

  def test_positional_arguments_are_those_of_each_version(self):
    x = tf.placeholder(tf.float32, [2])
    z = tf.constant(1.0)
    v2 = tf_of_process.compat.v2
    with gf.patched():
      dx, dz = v2.gradients(x * x, [x, z], None, "a", False, None, [], "zero")
      by_v1 = tf.gradients(x * x, [x, z], None, "b", True, False, None, [],
                           "zero")
      h, = v2.hessians(x ** 3, x, False, None, "c")
      h_by_v1, = tf.hessians(x ** 3, x, "d", False, False, None)
      for result, expected in (
          ([dx, dz], ([6.0, 8.0], 0.0)), (by_v1, ([6.0, 8.0], 0.0)),
          ([h, h_by_v1], (np.diag([18.0, 24.0]),) * 2)):
        for got, want in zip(self.session.run(result, {x: [3.0, 4.0]}),
                             expected):
          np.testing.assert_allclose(got, want)

  def test_sessions_that_exist_and_subclasses_check_their_feeds(self):
    class Logging(tf.Session):
      calls = 0

      def run(self, *args, **kwargs):
        type(self).calls += 1
        return super().run(*args, **kwargs)

    h = tf.constant(3.0) * 3.0
    y = tf.exp(-h)
    n = tf.placeholder(tf.int32, [])
    with Logging() as logging:
      with gf.patched():
        for session in (self.session, logging):
          self.assertEqual(session.run(y, {h: 0.0}), 1.0)
          self.assertEqual(y.eval({h: 0.0}, session), 1.0)
          with self.assertRaises(gf.FeedError):
            session.run(n + 1, {n: 2.7})
          with self.assertRaises(gf.FeedError):
            tf.group(n + 1).run({n: 2.7}, session)
          with self.assertRaises(gf.FeedError):
            session.make_callable(n + 1, [n])(2.7)
      self.assertEqual(Logging.calls, 5)
    self.assertEqual(self.session.run(n + 1, {n: 2.7}), 3)

  def test_blocks_nest_and_keep_what_was_installed(self):
    with gf.patched():
      with gf.patched():
        self.assertTrue(_is_replaced())
      self.assertTrue(_is_replaced())
      gf.install()
      gf.install()
    self.assertTrue(_is_replaced())
    with gf.patched():
      gf.uninstall()
      self.assertTrue(_is_replaced())
    self.assertFalse(_is_replaced())
    gf.uninstall()
    self.assertFalse(_is_replaced())

  def test_an_exception_ends_a_block(self):
    with self.assertRaises(KeyError):
      with gf.patched():
        raise KeyError()
    self.assertFalse(_is_replaced())

  def test_blocks_of_two_threads_overlap(self):
    entered, ended = threading.Event(), threading.Event()

    def other():
      with gf.patched():
        entered.set()
        ended.wait(10)

    thread = threading.Thread(target=other)
    with gf.patched():
      thread.start()
      entered.wait(10)
    self.assertTrue(_is_replaced())
    ended.set()
    thread.join(10)
    self.assertFalse(_is_replaced())

  def test_what_others_replaced_meanwhile_stays(self):
    original = tf.gradients
    self.addCleanup(setattr, tf, "gradients", original)
    gf.install()
    kept = tf.gradients
    theirs = lambda *arguments: kept(*arguments)
    tf.gradients = theirs
    gf.uninstall()
    self.assertIs(tf.gradients, theirs)
    x = tf.constant(3.0)
    dx, = tf.gradients(x * x, [x])  # By way of what was taken away.
    self.assertNotStartsWith_(dx.name)

  def assertNotStartsWith_(self, name):
    self.assertFalse(name.startswith("gradfeed/"), name)

  def test_optimizers_stay_with_tensorflow(self):
    w = graphs.variable("w", [3.0], False)
    with gf.patched():
      (dw, _), = tf.train.GradientDescentOptimizer(0.1).compute_gradients(
          w * w, [w])
      self.assertNotStartsWith_(dw.name)
      train = tf.train.GradientDescentOptimizer(0.1).minimize(w * w)
      self.initialize()
      self.session.run(train)
      np.testing.assert_allclose(self.session.run(w), [2.4])

  def test_gradients_of_gathers_are_sparse_as_in_tensorflow(self):
    w = graphs.variable("w", np.ones((4, 2)), False)
    y = tf.reduce_sum(tf.gather(w, [1, 1, 3]) ** 2)
    expected = tf.gradients(y, [w])[0]
    with gf.patched():
      dw, = tf.gradients(y, [w])
      self.assertIsInstance(dw, tf.IndexedSlices)
      self.initialize()
      got, want = self.session.run([dw, expected])
      np.testing.assert_array_equal(got.values, want.values)
      np.testing.assert_array_equal(got.indices, want.indices)

  def test_a_keras_that_is_loaded_later_is_replaced_and_put_back(self):
    if not hasattr(tf, "__version__") or tf.__version__.startswith("1."):
      self.skipTest("Keras is a part of TensorFlow 1, and loaded with it")
    if conftest.MODE != "v1":
      self.skipTest("the same in every mode")
    program = (
        "import sys, gradfeed as gf\n"
        "gf.install()\n"
        "assert 'tf_keras' not in sys.modules\n"
        "from tf_keras import backend\n"
        "replaced = backend.gradients, backend.function\n"
        "assert all('replacements' in f.__code__.co_filename\n"
        "           for f in replaced)\n"
        "loader = backend.__spec__.loader\n"
        "assert type(loader).__module__.startswith(('_frozen', 'importlib'))\n"
        "gf.uninstall()\n"
        "from tf_keras.src import backend as own\n"
        "assert backend.gradients is own.gradients\n"
        "assert backend.function is own.function\n")
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True,
                   cwd=folders.ROOT)
