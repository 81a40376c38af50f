"""`check` over random networks: what is right is never called wrong."""

from absl.testing import parameterized
import tensorflow.compat.v1 as tf

import gradfeed as gf
from tests.testing import networks

_PART = 21


class NetworksTest(parameterized.TestCase):

  @parameterized.parameters(range(0, 105, _PART))
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
