"""Errors say what, why and how to mend it, and old code catches them."""

import inspect
import pickle

from absl.testing import parameterized

import gradfeed as gf
from gradfeed import errors

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
    "MissingFeedError": (ValueError,),
    "MissingGradientError": (LookupError,),
    "ModelFileError": (OSError,),
    "SessionError": (RuntimeError,),
    "TangentError": (ValueError,),
    "StreamError": (OSError,),
    "TensorNotFoundError": (KeyError, ValueError),
    "TimeLimitError": (TimeoutError,),
    "UninitializedError": (RuntimeError,),
    "UnsupportedGraphError": (NotImplementedError,)}


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
    for parts in ((), ("No.",), ("No.", "Because.")):
      with self.assertRaises(TypeError):
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

  def test_changed_fix_is_printed(self):
    error = gf.FeedError("No.", "Because.", "Do it.")
    error.fix = "Do that."
    self.assertIn("Fix: Do that.", str(error))


class GradfeedWarningTest(parameterized.TestCase):

  def test_is_a_user_warning(self):
    self.assertTrue(issubclass(gf.GradfeedWarning, UserWarning))
