"""Slopes from values alone: against closed forms, kinks and jumps told."""

from absl.testing import parameterized
import numpy as np

from gradfeed.checking import directional_tests
from gradfeed.checking import finite_differences


def _slope(f, steps=finite_differences.FINE_STEPS, noise=1e-16, goal=1e-9,
           **options):
  return finite_differences.slopes(
      lambda t: np.array([f(t)], np.float64), steps, np.array([noise]),
      np.array([goal]), **options)[0]


def _rectified(units=3000):
  """A network of rectified units, with its gradient at the origin."""
  rng = np.random.RandomState(1)
  w, b = rng.normal(size=[units, 20]), rng.normal(size=[units])
  v = rng.normal(size=[units]) / units
  return (lambda xs: [v.dot(np.maximum(w.dot(xs[0]) + b, 0.0))],
          [(v * (b > 0.0)).dot(w)])


class SlopesTest(parameterized.TestCase):

  @parameterized.named_parameters(
      ("exponential", np.exp, 1.0),
      ("fast", lambda t: np.sin(500.0 * t + 1.0), 500.0 * np.cos(1.0)),
      ("saturated", lambda t: np.tanh(1e3 * t), 1e3),
      ("linear", lambda t: 3.0 * t + 1.0, 3.0),
      ("flat", lambda t: 0.0, 0.0),
      ("cube", lambda t: t ** 3, 0.0),
      ("square", lambda t: t ** 2, 0.0),
      ("close_to_a_kink", lambda t: abs(t - 1e-5) + t, 0.0),
      ("close_to_the_end", lambda t: np.log(t + 1e-4) if t > -1e-4
       else np.nan, 1e4))
  def test_is_within_its_error(self, f, expected):
    for first in (0, 4, 8):
      slope = _slope(f, first=first)
      self.assertLessEqual(abs(slope.value - expected), slope.error)
      self.assertLess(slope.error, 1e-5 * max(1.0, abs(expected)))
      self.assertFalse(slope.has_kink)

  def test_noise_is_part_of_the_error(self):
    rng = np.random.RandomState(0)
    for _ in range(50):
      slope = _slope(lambda t: np.exp(t) + 1e-7 * rng.normal(),
                     finite_differences.COARSE_STEPS, 1e-8, 1e-9)
      self.assertLessEqual(abs(slope.value - 1.0), 5.0 * slope.error)
      self.assertLess(slope.error, 1e-3)

  @parameterized.named_parameters(
      ("absolute", abs, -1.0, 1.0),
      ("relu", lambda t: max(t, 0.0), 0.0, 1.0),
      ("bent", lambda t: 2.0 * t + abs(t), 1.0, 3.0))
  def test_tells_a_kink_with_the_slopes_of_both_sides(self, f, left, right):
    for first in (0, 4, 8):
      slope = _slope(f, first=first, least_kink=0.5)
      self.assertTrue(slope.has_kink)
      np.testing.assert_allclose([slope.left, slope.right], [left, right])

  def test_a_jump_is_rough(self):
    slope = _slope(lambda t: 1.0 if t == 0 else t)
    self.assertTrue(slope.is_rough)

  def test_makes_no_more_steps_than_are_needed(self):
    seen = []
    _slope(lambda t: seen.append(t) or np.exp(t))
    self.assertLess(len(seen), 2 * len(finite_differences.FINE_STEPS))


  def test_goes_to_larger_steps_where_rounding_hides_the_slope(self):
    rng = np.random.RandomState(0)
    seen = []

    def noisy(t):
      seen.append(abs(t))
      return np.sin(t) + 1e-12 * rng.normal()

    slope = _slope(noisy, noise=1e-13, goal=1e-7, first=6)
    self.assertLessEqual(abs(slope.value - 1.0), slope.error)
    self.assertLess(slope.error, 1e-7)
    self.assertNotIn(finite_differences.FINE_STEPS[-1], seen)


class DirectionsTest(parameterized.TestCase):

  def test_are_the_same_for_a_seed_and_leave_the_users_random_state(self):
    x, g = np.arange(6.0).reshape(2, 3), np.zeros((2, 3))
    g[1, 2] = -4.0
    before = np.random.get_state()[1].copy()
    first, second = [
        finite_differences.directions([x], [g], ["x"], 7) for _ in range(2)
    ]
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    for a, b in zip(first, second):
      self.assertEqual(a.label, b.label)
      np.testing.assert_array_equal(a.arrays[0], b.arrays[0])

  def test_look_at_elements_that_matter_and_at_some_that_are_said_not_to(self):
    g = np.zeros(10)
    g[3] = 2.0
    directions = finite_differences.directions([np.ones(10)], [g], ["x:0"], 0)
    labels = [direction.label for direction in directions
              if direction.length is not None]
    self.assertEqual(labels[0], "'x:0'[3]")
    self.assertLen(labels, 4)

  def test_inner_is_how_tensorflow_means_complex_gradients(self):
    z, v = np.array([1.0 + 2.0j]), np.array([0.3 - 0.1j])
    conjugated = np.conj(3.0 * z ** 2)
    step = 1e-6
    change = ((z + step * v) ** 3 - (z - step * v) ** 3).real / (2 * step)
    self.assertAlmostEqual(
        finite_differences.inner([conjugated], [v]), change[0], places=6)


class DirectionalTestsTest(parameterized.TestCase):

  @parameterized.parameters((1.0, "right"), (1.0001, "wrong"),
                            (1.0 + 1e-8, "right"))
  def test_finds_a_hundredth_of_a_percent(self, factor, verdict):
    x = np.linspace(-1.0, 1.0, 5)
    g = [factor * np.exp(x)]
    source = directional_tests.Differences(
        lambda xs: [np.exp(xs[0])], [x], g, np.finfo(float).eps, list)
    tests = directional_tests.run(
        source, g, finite_differences.directions([x], g, ["x"], 0),
        np.finfo(float).eps)
    self.assertEqual(directional_tests.verdict_of(tests), verdict)

  def test_of_many_kinks_take_few_evaluations(self):
    f, g = _rectified()
    count = [0]

    def counted(xs):
      count[0] += 1
      return f(xs)

    x, eps = [np.zeros(20)], np.finfo(float).eps
    tests = directional_tests.run(
        directional_tests.Differences(counted, x, g, eps, list), g,
        finite_differences.directions(x, g, ["x"], 0), eps)
    self.assertLen(tests, 7)
    self.assertEqual({test.verdict for test in tests}, {"right"})
    self.assertLessEqual(count[0], 1 + 7 * 7)

  def test_finds_a_part_in_a_hundred_thousand_beside_many_kinks(self):
    f, g = _rectified()
    g = [g[0] * (1.0 + 1e-5)]
    x, eps = [np.zeros(20)], np.finfo(float).eps
    tests = directional_tests.run(
        directional_tests.Differences(f, x, g, eps, list), g,
        finite_differences.directions(x, g, ["x"], 0), eps)
    self.assertEqual(directional_tests.verdict_of(tests), "wrong")

  def test_finds_an_element_that_is_left_out(self):
    x = np.linspace(0.5, 1.0, 1000)
    g = [2.0 * x]
    g[0][400] = 0.0
    source = directional_tests.Differences(
        lambda xs: [xs[0] ** 2], [x], g, np.finfo(float).eps, list)
    tests = directional_tests.run(
        source, g, finite_differences.directions([x], g, ["x"], 0),
        np.finfo(float).eps)
    self.assertEqual(directional_tests.verdict_of(tests), "wrong")
    self.assertIn("'x'[400]", [test.direction.label for test in tests
                               if test.verdict == "wrong"])

  def test_take_few_evaluations_where_a_large_number_hides_them(self):
    count = [0]

    def f(xs):
      count[0] += 1
      return [np.sin(xs[0]), 1e6]

    x = np.linspace(-1.0, 1.0, 5)
    g, eps = [np.cos(x)], np.finfo(float).eps
    tests = directional_tests.run(
        directional_tests.Differences(f, [x], g, eps, list), g,
        finite_differences.directions([x], g, ["x"], 0), eps)
    self.assertEqual({test.verdict for test in tests}, {"right"})
    self.assertLess(max(test.error for test in tests), 5e-6)
    self.assertLessEqual(count[0], 1 + 7 * 11)

  def test_come_in_the_order_of_what_they_tell(self):
    x, g = np.ones(9), np.array([0.0, 5.0, 0.0, 4.0, 3.0, 0.0, 1.0, 1.0, 1.0])
    directions = finite_differences.directions([x], [g], ["x"], 0)
    order = finite_differences.most_telling_first(directions, [g])
    self.assertCountEqual(order, range(10))
    labels = [directions[i].label for i in order]
    self.assertEqual(labels[:3], ["the gradient", "direction 1", "'x'[1]"])
    self.assertIn(labels[3], ["'x'[0]", "'x'[2]", "'x'[5]"])
    self.assertEqual(labels[4:6], ["direction 2", "'x'[3]"])

  @parameterized.parameters(0, 1, 3, 40)
  def test_largest_elements_are_the_first_of_equal_ones(self, count):
    weights = np.random.RandomState(0).randint(5, size=30).astype(float)
    g = [weights]
    labels = [d.label for d in finite_differences.directions(
        [np.ones(30)], g, ["x"], 0, randoms=0, largest=count, zeros=0)][1:]
    order = [i for i in np.argsort(-weights, kind="stable")[:count]
             if weights[i]]
    self.assertEqual(labels, ["'x'[{}]".format(i) for i in order])
