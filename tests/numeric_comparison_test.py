"""Whether arrays are the same: to the bit, but for rounding, within a bound."""

from absl.testing import parameterized
import numpy as np

from gradfeed import numeric_comparison

_NAN, _INF = np.nan, np.inf


class HasSameBitsTest(parameterized.TestCase):

  @parameterized.named_parameters(
      ("numbers", [1.0, _NAN, _INF], [1.0, _NAN, _INF], True),
      ("last_bit", [1.0], [np.nextafter(1.0, 2.0)], False),
      ("sign_of_zero", [0.0], [-0.0], False),
      ("shape", np.zeros([2, 3]), np.zeros([3, 2]), False),
      ("scalar", 2.0, np.array(2.0), True),
      ("not_contiguous", np.eye(3).T[:, ::2], np.eye(3)[:, ::2], True))
  def test_compares(self, a, b, expected):
    self.assertEqual(numeric_comparison.has_same_bits(a, b), expected)


class IsCloseTest(parameterized.TestCase):

  @parameterized.named_parameters(
      ("float32", np.float32, 1e-5, True),
      ("float32_off", np.float32, 1e-2, False),
      ("float64", np.float64, 1e-9, True),
      ("float64_off", np.float64, 1e-5, False),
      ("complex", np.complex128, 1e-9, True))
  def test_goes_by_the_dtype(self, dtype, change, expected):
    a = np.array([1.0, -2.0], dtype)
    self.assertEqual(numeric_comparison.is_close(
        a, np.array([1.0 + change, -2.0], dtype)), expected)

  @parameterized.named_parameters(
      ("ints", [1, 2], [1, 2], True), ("ints_off", [1, 2], [1, 3], False),
      ("strings", [b"a"], [b"a"], True), ("bools", [True], [False], False))
  def test_others_are_equal(self, a, b, expected):
    self.assertEqual(numeric_comparison.is_close(np.array(a), np.array(b)),
                     expected)


class IsWithinTest(parameterized.TestCase):

  @parameterized.named_parameters(
      ("small_next_to_large", [1e-9, 1.0], [2e-9, 1.0], True),
      ("off", [0.5, 1.0], [0.6, 1.0], False),
      ("same_places", [_NAN, _INF, 1.0], [_NAN, _INF, 1.0], True),
      ("nan", [_NAN, 1.0], [1.0, 1.0], False),
      ("infinity_is_no_size", [_INF, 1.0], [_INF, 2.0], False),
      ("shapes", [1.0, 1.0], [[1.0, 1.0]], False),
      ("empty", [], [], True))
  def test_compares(self, a, b, expected):
    self.assertIs(numeric_comparison.is_within(
        np.array(a), np.array(b), 1e-3), expected)

  def test_size_of_more_than_the_array(self):
    a, b = np.array([1e-6]), np.array([2e-6])
    self.assertFalse(numeric_comparison.is_within(a, b, 1e-3))
    self.assertTrue(numeric_comparison.is_within(a, b, 1e-3, size=1.0))


class LargestTest(parameterized.TestCase):

  @parameterized.named_parameters(
      ("of_all", [[1.0, -3.0], [2.0]], 3.0),
      ("finite", [[_NAN, _INF, 2.0]], 2.0),
      ("complex", [[3.0 + 4.0j]], 5.0), ("none", [], 0), ("empty", [[]], 0))
  def test_is(self, arrays, expected):
    self.assertEqual(numeric_comparison.largest(arrays), expected)
