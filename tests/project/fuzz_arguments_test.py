"""Bad arguments: a part of what scripts/fuzz_arguments.py does."""

import importlib.util
import os

from absl.testing import parameterized

import gradfeed as gf
from tests.testing import folders


def _script():
  spec = importlib.util.spec_from_file_location(
      "fuzz_arguments",
      os.path.join(folders.ROOT, "scripts", "fuzz_arguments.py"))
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


class FuzzTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.script = _script()

  def test_bad_arguments_are_refused_and_leave_no_op(self):
    outcomes = self.script.outcomes(120, seed=0)
    self.assertLen(outcomes, 120)
    self.assertEqual([outcome.text for outcome in outcomes
                      if outcome.kind in ("raw", "left ops")], [])
    self.assertGreater(len({outcome.kind for outcome in outcomes}), 4)

  def test_good_calls_succeed(self):
    subject = self.script.Subject()
    self.addCleanup(subject.close)
    with subject.graph.as_default(), subject.session.as_default():
      for name, (function, positional, named) in subject.calls().items():
        with self.subTest(name):
          function(*positional, **named)

  def test_calls_every_public_function(self):
    subject = self.script.Subject()
    self.addCleanup(subject.close)
    functions = {name for name in gf.__all__
                 if not isinstance(getattr(gf, name), type)}
    self.assertEqual(functions - set(subject.calls()), {
        "load", "stream", "install", "uninstall", "patched", "to_module",
        "compare", "export", "audit"})

  @parameterized.parameters(
      (lambda: 1 / 0, "raw"), (lambda: None, "returned"))
  def test_tells_what_comes_of_a_call(self, function, kind):
    self.assertEqual(self.outcome_of(function).kind, kind)

  def test_tells_of_ops_that_are_left(self):
    def leave():
      self.script.tf.constant(1.0)
      raise gf.FeedError("No.", "Because.", "Do it.")
    self.assertEqual(self.outcome_of(leave).kind, "left ops")

  def outcome_of(self, function):
    """The outcome of a call of `function`, with no arguments to replace."""
    subject = self.script.Subject()
    self.addCleanup(subject.close)
    subject.calls = lambda: {"f": (lambda a: function(), [0], {})}
    return self.script.outcome_of(subject, _FirstOfAll())


class _FirstOfAll:
  """Stands for a `random.Random` that adds no argument."""

  def choice(self, items):
    return items[0]

  def sample(self, items, count):
    return items[:count]

  def random(self):
    return 1.0
