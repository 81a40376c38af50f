"""Strings keep the zeros at their end, as values and as results."""

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from tests.testing import graphs

_TEXT = b"ab\0\0"


class StringsTest(graphs.GraphTest):

  @parameterized.parameters(
      ([], _TEXT), ([2], [_TEXT, b"\0"]), ([2, 1], [[_TEXT], [b"c"]]),
      ([None], (_TEXT,)), ([], "ab\0"), ([2], np.array([_TEXT, b"\0"], object)))
  def test_s25_values(self, shape, value):
    x = tf.placeholder(tf.string, shape)
    y = tf.strings.join([x, b"\0"])
    want = self.session.run(y, {x: np.array(value, object)})
    for got in (gf.function(x, y, self.session)(value),
                gf.run(self.session, y, {x: value}),
                gf.function([], y, self.session, feed_dict={x: value})()):
      self.assertEqual(np.array(got, object).tolist(),
                       np.array(want, object).tolist())

  def test_s25_results_that_are_copied(self):
    x = tf.placeholder(tf.string, [])
    y = tf.identity(x)
    self.assertEqual(gf.run(self.session, [y, y, x], {x: _TEXT}), [_TEXT] * 3)

  def test_what_is_no_string_is_refused(self):
    x = tf.placeholder(tf.string, [None], name="x")
    f = gf.function(x, tf.strings.length(x), self.session)
    for value in ([1], [[b"a"], [b"b", b"c"]], [None], 3):
      with self.assertRaises(gf.FeedError):
        f(value)
