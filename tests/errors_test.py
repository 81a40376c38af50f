"""Errors say what, why and how to mend it, and old code catches them."""

import copy
import inspect
import os
import pickle
import subprocess
import sys

from absl.testing import parameterized
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed import errors
from tests.testing import folders
from tests.testing import graphs

_CLASSES = [(name, thing) for name, thing in sorted(vars(errors).items())
            if inspect.isclass(thing) and
            issubclass(thing, errors.GradfeedError)]

#: What code written before gradfeed catches where these are raised.
_BUILTINS = {
    "ArgumentError": (TypeError, ValueError),
    "AssignmentError": (RuntimeError,),
    "CotangentError": (ValueError,),
    "CoupledRowsError": (ValueError,),
    "DependencyError": (ImportError,),
    "DisconnectedError": (ValueError, TypeError),
    "EagerModeError": (RuntimeError,),
    "FeedError": (ValueError, TypeError),
    "FinalizedGraphError": (RuntimeError,),
    "GraphMismatchError": (ValueError,),
    "GraphTooLargeError": (ValueError,),
    "IncompleteGradientError": (ValueError,),
    "MissingFeedError": (ValueError,),
    "MissingGradientError": (LookupError,),
    "ModelFileError": (OSError,),
    "SessionError": (RuntimeError,),
    "TangentError": (ValueError,),
    "SparsityError": (ValueError,),
    "StreamError": (OSError,),
    "TensorNotFoundError": (KeyError, ValueError),
    "TimeLimitError": (TimeoutError,),
    "UninitializedError": (RuntimeError,),
    "UnsupportedGraphError": (NotImplementedError,)}

#: What it catches around `Session.run`, and the attribute `error_code`.
_OF_TENSORFLOW = {
    "CotangentError": (tf.errors.InvalidArgumentError, 3),
    "FeedError": (tf.errors.InvalidArgumentError, 3),
    "MissingFeedError": (tf.errors.InvalidArgumentError, 3),
    "TangentError": (tf.errors.InvalidArgumentError, 3),
    "TimeLimitError": (tf.errors.DeadlineExceededError, 4),
    "UninitializedError": (tf.errors.FailedPreconditionError, 9)}

_WITHOUT_TENSORFLOW = """
import sys
sys.modules["tensorflow"] = None
import importlib.util
spec = importlib.util.spec_from_file_location("errors", PATH)
errors = importlib.util.module_from_spec(spec)
spec.loader.exec_module(errors)
error = errors.UninitializedError("No.", "Because.", "Do it.")
assert str(type(error)(str(error))) == str(error)
assert isinstance(error, RuntimeError)
"""


class GradfeedErrorTest(parameterized.TestCase):

  @parameterized.named_parameters(*_CLASSES)
  def test_has_three_parts(self, cls):
    error = cls("No.", "Because.", "Do it.")
    self.assertEqual((error.what, error.why, error.fix),
                     ("No.", "Because.", "Do it."))
    # KeyError and OSError would print something else by themselves.
    self.assertEqual(str(error), "No.\n  Why: Because.\n  Fix: Do it.")

  @parameterized.named_parameters(*_CLASSES)
  def test_lacks_no_part(self, cls):
    for parts in ((), ("No.", "Because."), ("a", "b", "c", "d")):
      with self.assertRaisesRegex(TypeError, cls.__name__):
        cls(*parts)

  @parameterized.named_parameters(*_CLASSES)
  def test_can_be_caught(self, cls):
    with self.assertRaises(gf.GradfeedError):
      raise cls("No.", "Because.", "Do it.")
    for builtin in _BUILTINS.get(cls.__name__, ()):
      with self.assertRaises(builtin):
        raise cls("No.", "Because.", "Do it.")

  def test_every_class_is_in_the_table(self):
    names = {name for name, _ in _CLASSES} - {"GradfeedError"}
    self.assertEqual(names, set(_BUILTINS))

  @parameterized.named_parameters(*_CLASSES)
  def test_is_public_and_documented(self, cls):
    self.assertIs(getattr(gf, cls.__name__), cls)
    self.assertNotEmpty(inspect.getdoc(cls))

  @parameterized.named_parameters(*_CLASSES)
  def test_crosses_processes(self, cls):
    error = pickle.loads(pickle.dumps(cls("No.", "Because.", "Do it.")))
    self.assertIs(type(error), cls)
    self.assertEqual(str(error), "No.\n  Why: Because.\n  Fix: Do it.")
    self.assertEqual(error.fix, "Do it.")

  @parameterized.named_parameters(*_CLASSES)
  def test_copies_are_the_same(self, cls):
    error = cls("No.", "Because.", "Do it.")
    error.fix, error.row = "Do that.", 3
    for copied in (copy.copy(error), copy.deepcopy(error),
                   pickle.loads(pickle.dumps(error))):
      self.assertIs(type(copied), cls)
      self.assertEqual(str(copied), "No.\n  Why: Because.\n  Fix: Do that.")
      self.assertEqual(copied.row, 3)

  @parameterized.named_parameters(*_CLASSES)
  def test_is_made_anew_from_a_text(self, cls):
    text = str(cls("No.", "Because.", "Do it.")) + "\nIn layer 'dense'."
    error = cls(text)
    self.assertEqual((str(error), error.what, error.why, error.fix),
                     (text, text, "", ""))
    error = pickle.loads(pickle.dumps(error))
    self.assertIs(type(error), cls)
    self.assertEqual(str(error), text)

  @parameterized.named_parameters(*[
      (name, name) for name in sorted(_OF_TENSORFLOW)])
  def test_has_the_attributes_of_an_error_of_tensorflow(self, name):
    cls, (base, code) = getattr(gf, name), _OF_TENSORFLOW[name]
    error = cls("No.", "Because.", "Do it.")
    self.assertIsInstance(error, base)
    self.assertEqual((error.message, error.op, error.node_def,
                      error.error_code), (str(error), None, None, code))
    node = tf.NodeDef(name="y", op="Mul")
    for error in (cls(None, None, "Text."), cls(node, "op", "Text."),
                  cls(node, "op", "Text.", code)):
      self.assertEqual((str(error), error.message), ("Text.", "Text."))
    self.assertEqual((error.node_def.name, error.op), ("y", "op"))
    self.assertEqual(str(pickle.loads(pickle.dumps(error))), "Text.")

  def test_no_other_is_an_error_of_tensorflow(self):
    self.assertEqual(
        sorted(name for name, cls in _CLASSES
               if issubclass(cls, tf.errors.OpError)), sorted(_OF_TENSORFLOW))

  def test_does_without_tensorflow(self):
    path = os.path.join(folders.ROOT, "gradfeed", "errors.py")
    subprocess.run([sys.executable, "-c", _WITHOUT_TENSORFLOW.replace(
        "PATH", repr(path))], check=True)

  def test_changed_fix_is_printed(self):
    error = gf.FeedError("No.", "Because.", "Do it.")
    error.fix = "Do that."
    self.assertIn("Fix: Do that.", str(error))


class ErrorsOfARunTest(graphs.GraphTest):

  def test_older_code_catches_those_of_tensorflow(self):
    weight = tf.Variable(2.0)
    x = tf.placeholder(tf.float32, [2])
    y = x * weight
    with tf.Session() as session:
      for kind in (tf.errors.FailedPreconditionError, gf.UninitializedError):
        with self.assertRaises(kind):
          gf.run(session, y, {x: [1.0, 2.0]})
      session.run(weight.initializer)
      for kind in (tf.errors.InvalidArgumentError, gf.MissingFeedError):
        with self.assertRaises(kind):
          gf.run(session, y)
      with self.assertRaises(tf.errors.OpError):
        gf.run(session, y, {x: [1.0]})

  def test_older_code_catches_that_of_a_time_limit(self):
    waits = tf.FIFOQueue(1, tf.float32, [[]]).dequeue()
    with tf.Session() as session:
      for kind in (tf.errors.DeadlineExceededError, gf.TimeLimitError):
        with self.assertRaises(kind):
          gf.run(session, waits, timeout=0.1)


class GradfeedWarningTest(parameterized.TestCase):

  def test_is_a_user_warning(self):
    self.assertTrue(issubclass(gf.GradfeedWarning, UserWarning))
