"""Which elements results depend on, held against central differences."""

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

from gradfeed.analysis import element_dependence
from gradfeed.graph import traversal
from tests.testing import graphs

_MATRIX = np.random.RandomState(0).normal(size=[5, 4])


def _burgers(u):
  around = tf.pad(u, [[1, 1]])
  return u * (around[2:] - around[:-2]) - (
      around[2:] - 2 * u + around[:-2])


def _stencil(u):
  return u[1:-1, 1:-1] ** 2 + u[:-2, 1:-1] + u[2:, 1:-1] * u[1:-1, 2:]


#: (name, shape of x, function): each place found is one that is not zero.
_EXACT = (
    ("burgers", [8], _burgers),
    ("burgers_gradient", [8], lambda u: tf.gradients(_burgers(u) ** 2, u)[0]),
    ("stencil", [5, 6], _stencil),
    ("stencil_gradient", [5, 6], lambda u: tf.gradients(
        _stencil(u) ** 2, u)[0]),
    ("roll", [8], lambda u: tf.roll(u, 1, 0) * u),
    ("roll_gradient", [8], lambda u: tf.gradients(
        tf.roll(u, 1, 0) * u ** 2, u)[0]),
    ("roll_two", [3, 4], lambda u: tf.roll(u ** 2, [1, -1], [0, 1])),
    ("network", [6, 5], lambda u: tf.tanh(tf.matmul(
        tf.tanh(tf.matmul(u, _MATRIX)), _MATRIX[:4, :3]))),
    ("left_turned", [5, 6], lambda u: tf.matmul(
        _MATRIX, u ** 2, transpose_a=True)),
    ("both_turned", [6, 5], lambda u: tf.matmul(
        _MATRIX, u ** 2, transpose_a=True, transpose_b=True)),
    ("turned", [5, 6], lambda u: tf.matmul(u, _MATRIX, transpose_a=True)),
    ("both_sides", [3, 3], lambda u: tf.matmul(u + 1.0, tf.exp(u))),
    ("concat", [9], lambda u: tf.concat(
        [u[::-1][:4] ** 2, [1.0], u[5:]], 0)),
    ("concat_gradient", [9], lambda u: tf.gradients(
        tf.concat([u[4:], u[:4] ** 3], 0) ** 2, u)[0]),
    ("stack", [4], lambda u: tf.stack([u ** 2, tf.reverse(u, [0])], 1)),
    ("unstack", [3, 4], lambda u: tf.add_n(tf.unstack(u)[:2]) *
     tf.unstack(u)[2]),
    ("unstack_inner", [3, 4], lambda u: tf.unstack(u, axis=-1)[2]),
    ("gather", [9], lambda u: tf.gather(u, [[0, 3], [5, 8], [1, 1]]) ** 2),
    ("gather_inner", [3, 4], lambda u: tf.gather(u, [3, 0], axis=1)),
    ("reflect", [6], lambda u: tf.pad(u ** 2, [[2, 1]], "REFLECT")),
    ("symmetric", [6], lambda u: tf.pad(u, [[2, 1]], "SYMMETRIC")),
    ("pad_value", [3], lambda u: tf.pad(u, [[2, 1]], constant_values=7.0)),
    ("tile", [3, 4], lambda u: tf.tile(u ** 2, [2, 1]) * u[0, 0]),
    ("transpose", [3, 4], lambda u: tf.transpose(u ** 2)[..., tf.newaxis]),
    ("slices", [4, 5, 2], lambda u: u[1, ..., ::-1][-3:-1]),
    ("slice", [4, 5], lambda u: tf.slice(u, [1, 2], [2, -1])),
    ("reshape", [3, 4], lambda u: tf.squeeze(
        tf.reshape(u, [2, 1, 6]), 1) * tf.reshape(u, [2, 6])[:1]),
    ("sums", [4, 3], lambda u: tf.reduce_sum(u ** 2, 1) + tf.reduce_mean(
        u, axis=-1)),
    ("sums_kept", [4, 3], lambda u: u * tf.reduce_sum(u, 0, keepdims=True)),
    ("broadcast", [6], lambda u: u[:, None] * tf.broadcast_to(
        u[None, :2], [6, 2])),
    ("where", [6], lambda u: tf.where(u > 0, u ** 2, -u)),
    ("constants_among", [3], lambda u: u[1:] * tf.stop_gradient(u)[0]),
)

#: Where less is known, so that there may be more places than needed.
_MORE = (
    ("maximum", [4, 3], lambda u: tf.reduce_max(u, 1)),
    ("band_as_matrix", [4, 4], lambda u: tf.matmul(
        u, np.eye(4) + np.eye(4, k=1))),
)

#: What is not followed, and the type of the op that is named.
_UNFOLLOWED = (
    ("softmax", [3, 4], tf.nn.softmax, "Softmax"),
    ("loop", [3], lambda u: tf.while_loop(
        lambda i, _: i < 2, lambda i, v: (i + 1, v * v), [0, u])[1],
     "Exit|While|LoopCond|Merge|Enter|Switch|NextIteration|Identity"),
    ("batch_of_products", [2, 3, 3], lambda u: tf.matmul(u, u), "BatchMatMul"),
    ("index_in_a_run", [3], lambda u: u[tf.placeholder(tf.int32, []):],
     "StridedSlice"),
    ("unknown", [None], lambda u: u ** 2, "Placeholder"),
)


class ElementDependenceTest(graphs.GraphTest):

  def found(self, y, x):
    ops = traversal.ancestors([y], cut={x.name})
    after = {x.op.name}
    for name, op in ops.items():  # Inputs before users.
      if op.type != "StopGradient" and any(
          t.op.name in after for t in op.inputs):
        after.add(name)
    return element_dependence.places(
        y, x, x.shape, {name: ops[name] for name in after if name in ops and
                        name != x.op.name})

  def differences(self, y, x, x_t, held):
    """Where central differences are not zero, with `held` as it is."""
    run = self.session.make_callable(y, [x] + list(held))
    held_t = list(held.values())
    step, columns = 1e-4, []
    for index in np.ndindex(x_t.shape):
      above, below = x_t.copy(), x_t.copy()
      above[index] += step
      below[index] -= step
      columns.append(np.ravel(run(above, *held_t) - run(below, *held_t)))
    return np.abs(np.stack(columns, 1)) > 1e-9

  @parameterized.named_parameters(*(_EXACT + _MORE))
  def test_places(self, shape, function):
    x = tf.placeholder(tf.float64, shape)
    y = function(x)
    x_t = np.random.RandomState(3).uniform(0.3, 1.0, size=shape)
    held = {op.outputs[0]: x_t[0] if op.outputs[0].shape.ndims == 0 else x_t
            for op in self.graph.get_operations()
            if op.type == "StopGradient"}
    nonzero = self.differences(y, x, x_t, held)
    rows, columns = self.found(y, x)
    found = np.zeros_like(nonzero)
    found[rows, columns] = True
    self.assertEqual(len(rows), found.sum())  # Each one once.
    self.assertFalse(np.any(nonzero & ~found))
    if (shape, function) in [case[1:] for case in _EXACT]:
      np.testing.assert_array_equal(found, nonzero)

  @parameterized.named_parameters(*_UNFOLLOWED)
  def test_what_is_not_followed(self, shape, function, named):
    x = tf.placeholder(tf.float64, shape)
    with self.assertRaises(element_dependence.Unfollowed) as raised:
      self.found(function(x), x)
    self.assertRegex(raised.exception.op.type, named)

  def test_tables_are_bounded(self):
    x = tf.placeholder(tf.float64, [4000])
    with self.assertRaises(element_dependence.Unfollowed):
      self.found(x * tf.reduce_sum(x), x)

  def test_a_deep_graph(self):
    x = y = tf.placeholder(tf.float64, [3])
    for _ in range(1200):
      y = y * 1.01
    rows, columns = self.found(y, x)
    np.testing.assert_array_equal(rows, columns)
