"""`check` over random networks: what is right is never called wrong."""

import os

from absl.testing import parameterized
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed import _tf
from tests.testing import networks

_PART = 21

#: The seeds of the first networks of each part. On TF 2 each mode has its own.
_FIRSTS = list(range(0, 105, _PART))
if _tf.IS_TF2:
  _FIRSTS = _FIRSTS[["v1", "v2", "eager"].index(
      os.environ.get("GRADFEED_MODE", "v1"))::3]


class NetworksTest(parameterized.TestCase):

  @parameterized.parameters(_FIRSTS)
  def test_a_right_gradient_is_not_called_wrong(self, first):
    verdicts = []
    for seed in range(first, first + _PART):
      dtype = tf.float32 if seed % 3 else tf.float64
      with tf.Graph().as_default(), tf.Session() as session:
        x, y, x_t = networks.network(seed, dtype)
        report = gf.check(y, x, x_t, session)
        self.assertNotEqual(report.verdict, "wrong", (seed, report))
        self.assertFalse(report.is_bad)
        verdicts.append(report.verdict)
    self.assertGreaterEqual(verdicts.count("right"), 0.85 * _PART)
