"""A small part of scripts/sweep_compiled.py, and that it finds what is wrong."""

import os
import sys
import unittest
from unittest import mock

from absl.testing import parameterized
import numpy as np

from gradfeed import _tf
from gradfeed.compilation import nans
from gradfeed.compilation import value_checks
from tests.testing import folders

_SCRIPTS = os.path.join(folders.ROOT, "scripts")


@unittest.skipIf(not _tf.IS_TF2, "TensorFlow 1.15 compiles nothing.")
class SweepTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.enter_context(mock.patch.object(sys, "path", [_SCRIPTS] + sys.path))
    import sweep_compiled  # pylint: disable=g-import-not-at-top
    self.script = sweep_compiled

  def test_ops(self):
    found = list(self.script.sweep_ops(
        ["Maximum", "Min", "ArgMax", "Softmax", "SeluGrad"]))
    self.assertLen(found, 5)
    for op_type, worst, said in found:
      self.assertIsNotNone(worst, said)
      self.assertLessEqual(worst, 1e-5, (op_type, said))

  def test_finds_a_maximum_that_ignores_nan(self):
    with mock.patch.object(nans, "pass_on"):
      (_, worst, said), = self.script.sweep_ops(["Max"])
    self.assertEqual(worst, np.inf)
    self.assertIn("nan in input 0", said)

  def test_networks(self):
    found = list(self.script.sweep_networks(2, 1))
    self.assertLen([worst for _, worst, _ in found if worst is not None], 2)
    for seed, worst, said in found:
      self.assertLessEqual(worst, 1e-5, (seed, said))

  @parameterized.parameters(
      ([1., 2.], [1., 2.1], 0.05), ([np.nan, 1.], [np.nan, 1.], 0.),
      ([np.nan, 1.], [0., 1.], np.inf), ([np.inf, 1.], [-np.inf, 1.], np.inf))
  def test_difference(self, own, result, expected):
    self.assertAlmostEqual(self.script.difference(
        [np.array(own)], [np.array(result)]), expected)

  def test_what_cancels_counts_by_the_largest_result(self):
    self.assertLess(self.script.difference(
        [np.array(1e-16), np.array(10.)], [np.array(0.), np.array(10.)]), 1e-15)

  def test_integers_are_equal_or_not(self):
    self.assertEqual(self.script.difference([np.array(1)], [np.array(2)]),
                     np.inf)

  def test_every_type_is_one_of_tensorflow(self):
    unknown = [name for name in value_checks.compiled_types()
               if not hasattr(_tf.tf.raw_ops, name)]
    self.assertEqual(unknown, [])
