"""Tests of the forms in which the values of a call may be passed."""

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed.evaluation.calls import trials
from tests.testing import graphs


class CallFormTest(graphs.GraphTest):
  """`f(...)`: by place, in one list, by name, in a dict."""

  def setUp(self):
    super().setUp()
    self.a = tf.placeholder(tf.float64, [2], name="a")
    with tf.name_scope("in"):
      self.b = tf.placeholder(tf.float64, [], name="b")
    self.y = tf.reduce_sum(self.a) * 10. + self.b
    self.a_t, self.b_t = [1., 2.], 3.

  def _check(self, f, *calls):
    for call in calls + calls:
      self.assertEqual(call(f), 33.)

  def test_a_list_of_inputs(self):
    a_t, b_t = self.a_t, self.b_t
    for inputs in ([self.a, self.b], (self.a, self.b), ["a:0", "in/b"]):
      self._check(
          gf.function(inputs, self.y, self.session),
          lambda f: f(a_t, b_t), lambda f: f([a_t, b_t]),
          lambda f: f((a_t, b_t)), lambda f: f(*[a_t, b_t]),
          lambda f: f(a=a_t, b=b_t), lambda f: f(b=b_t, a=a_t),
          lambda f: f(a_t, b=b_t), lambda f: f(b=np.float32(3.), a=[1, 2]),
          lambda f: f({"a": a_t, "b": b_t}),
          lambda f: f({"a:0": a_t, "in/b": b_t}),
          lambda f: f({self.a: a_t, "in/b:0": b_t}),
          lambda f: f(**{"a": a_t, "b": b_t}))

  def test_one_argument_that_is_a_list(self):
    a_t, b_t = self.a_t, self.b_t
    self._check(
        gf.function([[self.a, self.b]], self.y, self.session),
        lambda f: f([a_t, b_t]), lambda f: f(a_t, b_t),
        lambda f: f(a=a_t, b=b_t))

  def test_nested_arguments(self):
    a_t, b_t = self.a_t, self.b_t
    self._check(
        gf.function([(self.a,), {"p": self.b}], self.y, self.session),
        lambda f: f((a_t,), {"p": b_t}), lambda f: f([(a_t,), {"p": b_t}]),
        lambda f: f((a_t,), b=b_t), lambda f: f(a=a_t, b=b_t))

  def test_a_dict_of_inputs(self):
    a_t, b_t = self.a_t, self.b_t
    self._check(
        gf.function({"p": self.a, "q": self.b}, self.y, self.session),
        lambda f: f({"p": a_t, "q": b_t}), lambda f: f(p=a_t, q=b_t),
        lambda f: f(q=b_t, p=a_t))

  def test_one_input_takes_a_list_as_its_value(self):
    for inputs in (self.a, [self.a], (self.a,)):
      f = gf.function(inputs, self.a * 2., self.session)
      self.assertEqual(f([1., 2.]).tolist(), [2., 4.])
      self.assertEqual(f(a=[1., 2.]).tolist(), [2., 4.])
    f = gf.function([self.b], self.b * 2., self.session)
    self.assertEqual(f(1.), 2.)
    with self.assertRaisesRegex(gf.FeedError, "(?s)shape.*one input.*bracket"):
      f([1.])

  def test_both_readings_possible(self):
    c = tf.placeholder(tf.float64, None, name="c")
    f = gf.function([c], c * 2., self.session)
    self.assertEqual(f([1.]).tolist(), [2.])

  def test_with_other_feeds(self):
    k = tf.placeholder(tf.float64, [], name="k")
    f = gf.function([self.a, self.b], self.y * k, self.session)
    for call in (lambda **feeds: f([self.a_t, self.b_t], **feeds),
                 lambda **feeds: f(a=self.a_t, b=self.b_t, **feeds)):
      self.assertEqual(call(feed_dict={k: 2.}), 66.)
      with self.assertRaisesRegex(gf.MissingFeedError, "'k:0'"):
        call()

  @parameterized.named_parameters(
      ("unknown", lambda f: f(a=[1., 2.], c=1.), "'c'.*a='a:0'.*b='in/b:0'"),
      ("missing", lambda f: f(b=1.), "'a:0'.*no value"),
      ("missing_after_place", lambda f: f([1., 2.], a=[1., 2.]),
       "'a:0'.*two values"),
      ("twice", lambda f: f({"a": [1., 2.], "a:0": [1., 2.], "b": 1.}),
       "'a:0'.*two values"),
      ("too_many", lambda f: f([1., 2.], 1., 2.), "3 values for 2 inputs"),
      ("too_many_and_named", lambda f: f([1., 2.], 1., 2., b=1.),
       "3 values for 2 inputs"),
      ("a_list_of_three", lambda f: f([[1., 2.], 1., 2.]),
       "1 values for 2 inputs"),
      ("an_array", lambda f: f(np.ones(2)), "1 values for 2 inputs"),
      ("wrong_shape", lambda f: f(a=[1.], b=1.), "'a:0'.*shape"),
      ("wrong_in_list", lambda f: f([[1.], 1.]), "'a:0'.*shape"),
      ("a_number_as_name", lambda f: f({1: 1., 2: 2.}), "1: no input"))
  def test_refused(self, call, message):
    f = gf.function([self.a, self.b], self.y, self.session)
    f(self.a_t, self.b_t)
    with self.assertRaisesRegex(gf.FeedError, "(?s)" + message):
      call(f)

  def test_names_that_are_not_unique(self):
    with tf.name_scope("other"):
      b = tf.placeholder(tf.float64, [], name="b")
    f = gf.function([self.b, b], self.b - b, self.session)
    with self.assertRaisesRegex(gf.FeedError, "(?s)'b'.*'in/b:0'.*'other/b:0'"):
      f(b=1.)
    self.assertEqual(f({"in/b": 5., "other/b": 2.}), 3.)

  def test_a_variable_and_a_layer_by_name(self):
    v = graphs.variable("v", 1., True)
    h = tf.multiply(self.b, v, name="layer")
    f = gf.function([v, h], h * v, self.session)
    self.assertEqual(f(v=3., layer=2.), 6.)
    self.assertEqual(f(layer=2., v=3.), 6.)

  def test_early_calls_take_the_short_way(self):
    f = gf.function([self.a, self.b], self.y, self.session)
    for _ in range(4):
      f(np.ones(2), np.array(1.))
    f._executable.evaluate = None  # What the long way calls.
    self.assertEqual(f(np.ones(2), np.array(1.)), 21.)

  def test_nested_and_cast_calls_take_the_short_way(self):
    f = gf.function([(self.a,), {"p": self.b}], self.y, self.session)
    for _ in range(trials.Trial.CALLS + 30):
      f((np.ones(2),), {"p": np.array(1.)})
    flat = gf.function([self.a, self.b], self.y, self.session)
    for _ in range(trials.Trial.CALLS + 30):
      flat(np.ones(2), np.array(1.))
    for function in (f, flat):
      function._executable.evaluate = None  # What the long way calls.
    self.assertEqual(f((np.ones(2),), {"p": np.array(1.)}), 21.)
    self.assertEqual(f(([1, 1],), {"p": 1}), 21.)
    self.assertEqual(flat([1, 1], np.float32(1.)), 21.)
    self.assertEqual(flat(a=[1, 1], b=1), 21.)
