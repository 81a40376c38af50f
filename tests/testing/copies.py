"""What tests of copies in the places of calls have in common."""

import time
from unittest import mock

import numpy as np

import gradfeed as gf
from gradfeed.evaluation.calls import substitutes
from tests.testing import graphs
from tests.testing import numeric


def _settle(choice, state, why, choose=substitutes.Choice.settle):
  """Takes what is timed for faster by the copy."""
  choose(choice, "compiled" if "ms" in why else state, why)


def _settle_slower(choice, state, why):
  """Takes what is timed for slower by the copy."""
  _settle(choice, "op by op" if "ms" in why else state, why.replace("ms", ""))


class CopiesTest(graphs.GraphTest):
  """A copy of a network is made, and taken for faster.

  Attributes:
    x, at: placeholder and value that the networks are of.
    told: str, what `Function.jit` says of a copy that is used.
    calls: int, how many calls it takes at least until it is decided how to.
  """

  told = None
  calls = 3

  def setUp(self):
    super().setUp()
    self.enter_context(mock.patch.object(substitutes.Choice, "settle", _settle))

  def network(self):
    """A network of `x`."""
    raise NotImplementedError

  def function(self, y, *inputs):
    self.initialize()
    return gf.function(list(inputs) or self.x, [y, gf.gradient(y, self.x)],
                       session=self.session)

  def settled(self, f, *values):
    """Calls until it is decided how to; the results of all calls."""
    results = []
    deadline = time.monotonic() + 60
    while len(results) < self.calls or f._executable.jit is not None and any(
        state in f._executable.jit.report()
        for state in ("counting", "compiling", "timing")):
      results.append(f(*values))
      self.assertLess(time.monotonic(), deadline)
    return results

  def assert_is_right(self, f, y, results, at):
    of = lambda point: self.session.run(y, {self.x: point})
    np.testing.assert_allclose(results[0], of(at), 1e-12)
    np.testing.assert_allclose(results[1], numeric.central_differences(
        lambda point: np.sum(of(point)), at), 1e-6, 1e-8)

  def test_what_is_slower_is_left(self):
    y = self.network()
    f = self.function(y)
    with mock.patch.object(substitutes.Choice, "settle", _settle_slower):
      self.settled(f, self.at)
    self.assertNotIn(self.told, f.jit)
    self.assert_is_right(f, y, f(self.at), self.at)

  def test_other_numbers_are_not_used(self):
    """Those of a copy that computes something else."""
    y = self.network()
    f = self.function(y)
    with mock.patch.object(
        substitutes.Substitutes, "_compiled", return_value=lambda arrays: [
            np.full([2, 2], 1.0), np.full(self.at.shape, 1.0)]):
      self.settled(f, self.at)
    self.assertNotIn(self.told, f.jit)
    self.assertIn("differs", f._executable.jit.report())
