"""Tests of `Gradients`: keyed points, and the refused ones apart."""

from absl.testing import parameterized
import numpy as np

import gradfeed as gf
from tests.beam import local_runs
from tests.shards import networks

beam = local_runs.beam
Gradients = local_runs.gradfeed.beam.Gradients


class GradientsTest(networks.ShardTest):

  def evaluate(self, elements, **settings):
    """(dict of gradients, dict of refused rows, metrics)."""
    (good, bad), metrics = local_runs.run(
        elements, Gradients(self.model, "y:0", "x:0", **settings))
    self.assertLen(dict(good), len(good))  # Every key once.
    self.assertLen({key for key, _, _ in bad}, len(bad))
    return dict(good), {key: (why, point) for key, why, point in bad}, metrics

  @parameterized.parameters(1, 64, 600)
  def test_four_bad_rows_of_six_hundred(self, size):
    points = self.points(600)
    wrong = {3: np.array([np.nan, 1.0]), 77: np.ones(5), 300: "text",
             599: np.array([1.0, -np.inf])}
    good, bad, metrics = self.evaluate(
        [("k{}".format(i), wrong.get(i, point))
         for i, point in enumerate(points)], max_batch_size=size)
    self.assertEqual({key: why for key, (why, _) in bad.items()}, {
        "k3": "is not finite",
        "k77": "has the shape [5], which is no row of 'x:0' (float64, [?, 2])",
        "k300": "has the shape [], which is no row of 'x:0' (float64, [?, 2])",
        "k599": "is not finite"})
    np.testing.assert_array_equal(bad["k77"][1], np.ones(5))
    self.assertLen(good, 596)
    for i, wanted in enumerate(networks.gradient(points)):
      if i not in wrong:
        self.assertTrue(np.isfinite(good["k{}".format(i)]).all())
        np.testing.assert_allclose(good["k{}".format(i)], wanted, rtol=1e-12)
    self.assertEqual((metrics["rows"], metrics["refused_rows"]), (600, 4))

  def test_gives_what_one_stream_gives(self):
    points = self.points(100)
    with gf.load(self.model) as model:
      f = gf.function("x:0", gf.gradient("y:0", "x:0"))
      gf.stream(f, points, self.path("g.npy"))
    del model
    good, _, _ = self.evaluate(list(enumerate(points)), max_batch_size=30)
    np.testing.assert_array_equal(
        [good[i] for i in range(100)], np.load(self.path("g.npy")))

  @parameterized.parameters(1.0, 0.5)
  def test_all_rows_refused_is_a_failure(self, threshold):
    with self.assertRaisesRegex(Exception, "None of the 5 rows.*"):
      self.evaluate([(i, np.ones(3)) for i in range(5)], threshold=threshold)

  @parameterized.parameters((0.09, True), (0.1, False), (0.0, True))
  def test_more_than_a_share_is_a_failure(self, threshold, fails):
    points = list(enumerate(self.points(50)))
    for i in (0, 10, 20, 30, 40):
      points[i] = i, np.full(2, np.nan)
    if not fails:
      good, bad, _ = self.evaluate(points, threshold=threshold)
      self.assertEqual((len(good), len(bad)), (45, 5))
      return
    with self.assertRaisesRegex(
        Exception, r"(?s)5 of 50 rows were refused.*row \d+ is not finite.*"
        "and 2 more"):
      self.evaluate(points, threshold=threshold, max_batch_size=7)

  def test_no_rows(self):
    good, bad, _ = self.evaluate([])
    self.assertEqual((good, bad), ({}, {}))

  @parameterized.parameters(-0.1, 1.5, "1", True, None)
  def test_refuses_what_is_no_share(self, threshold):
    with self.assertRaisesRegex(gf.ArgumentError, "threshold="):
      Gradients(self.model, "y:0", "x:0", threshold=threshold)

  def test_shares_of_windows(self):
    points = [(i, np.ones(2)) for i in range(10)] + [
        (i, np.full(2, np.nan)) for i in range(10, 14)]

    with self.assertRaisesRegex(Exception, "None of the 4 rows"):
      local_runs.run(points, _InWindows(Gradients(self.model, "y:0", "x:0")))


class _InWindows(beam.PTransform):
  """Applies a transform in windows of ten keys."""

  def __init__(self, transform):
    super().__init__()
    self._transform = transform

  def expand(self, elements):
    return (elements | beam.Map(_stamped)
            | beam.WindowInto(beam.window.FixedWindows(10)) | self._transform)


def _stamped(element):
  return beam.window.TimestampedValue(element, element[0])
