"""A language model of LSTM cells, unrolled by a loop, with state by feeds."""

import collections

import numpy as np
import tensorflow.compat.v1 as tf

VOCAB_SIZE = 20
HIDDEN_SIZE = 24
NUM_STEPS = 10
BATCH_SIZE = 8

LSTMStateTuple = collections.namedtuple("LSTMStateTuple", ("c", "h"))


def lstm_cell(inputs, state, kernel, bias, forget_bias=1.0):
  i, j, f, o = tf.split(tf.nn.bias_add(
      tf.matmul(tf.concat([inputs, state.h], 1), kernel), bias), 4, 1)
  c = state.c * tf.sigmoid(f + forget_bias) + tf.sigmoid(i) * tf.tanh(j)
  return LSTMStateTuple(c, tf.tanh(c) * tf.sigmoid(o))


def dynamic_rnn(inputs, initial_state, kernel, bias):
  """Outputs [time, batch, size] of time-major inputs, and the last state."""
  time_steps = tf.shape(inputs)[0]
  input_ta = tf.TensorArray(
      dtype=inputs.dtype, size=time_steps, tensor_array_name="inputs")
  input_ta = input_ta.unstack(inputs)
  output_ta = tf.TensorArray(
      dtype=inputs.dtype, size=time_steps, tensor_array_name="outputs")
  input_size = inputs.shape.as_list()[-1]

  def _time_step(time, state_c, state_h, ta):
    x = input_ta.read(time)
    x.set_shape([None, input_size])
    state = lstm_cell(x, LSTMStateTuple(state_c, state_h), kernel, bias)
    return time + 1, state.c, state.h, ta.write(time, state.h)

  _, c, h, output_ta = tf.while_loop(
      lambda time, *_: time < time_steps, _time_step,
      (tf.constant(0), initial_state.c, initial_state.h, output_ta),
      parallel_iterations=32, swap_memory=False)
  return output_ta.stack(), LSTMStateTuple(c, h)


class PTBModel(object):

  def __init__(self, is_training, rng=None):
    self.input_data = tf.placeholder(tf.int32, [None, None], name="inputs")
    self.targets = tf.placeholder(tf.int32, [None, None], name="targets")
    batch_size = tf.shape(self.input_data)[0]
    zeros = tf.zeros([batch_size, HIDDEN_SIZE])
    self.initial_state = LSTMStateTuple(
        tf.placeholder_with_default(zeros, [None, HIDDEN_SIZE]),
        tf.placeholder_with_default(zeros, [None, HIDDEN_SIZE]))

    def variable(name, *shape):
      if rng is None:
        return tf.get_variable(name, shape)
      return tf.get_variable(
          name, initializer=(rng.randn(*shape) * 0.2).astype(np.float32))

    embedding = variable("embedding", VOCAB_SIZE, HIDDEN_SIZE)
    kernel = variable("kernel", 2 * HIDDEN_SIZE, 4 * HIDDEN_SIZE)
    bias = variable("bias", 4 * HIDDEN_SIZE)
    self.inputs = tf.nn.embedding_lookup(
        embedding, tf.transpose(self.input_data))
    outputs, self.final_state = dynamic_rnn(
        self.inputs, self.initial_state, kernel, bias)
    softmax_w = variable("softmax_w", HIDDEN_SIZE, VOCAB_SIZE)
    softmax_b = variable("softmax_b", VOCAB_SIZE)
    logits = tf.nn.xw_plus_b(
        tf.reshape(outputs, [-1, HIDDEN_SIZE]), softmax_w, softmax_b)
    targets = tf.reshape(tf.transpose(self.targets), [-1])
    self.cost = tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=targets, logits=logits))
    if not is_training:
      # how much each input matters for the last prediction
      self.relevance = tf.gradients(
          tf.reduce_max(logits[-1]), self.inputs)[0]
      return

    self.lr = tf.Variable(0.0, trainable=False)
    tvars = tf.trainable_variables()
    grads, self.norm = tf.clip_by_global_norm(
        tf.gradients(self.cost, tvars), 1.0)
    optimizer = tf.train.GradientDescentOptimizer(self.lr)
    self.train_op = optimizer.apply_gradients(
        zip(grads, tvars),
        global_step=tf.train.get_or_create_global_step())
    self.new_lr = tf.placeholder(
        tf.float32, shape=[], name="new_learning_rate")
    self.lr_update = tf.assign(self.lr, self.new_lr)

  def assign_lr(self, session, lr_value):
    session.run(self.lr_update, feed_dict={self.new_lr: lr_value})


def producer(count, rng):
  """Batches of sequences in which each token hangs on the one before."""
  step = rng.randint(1, 4, size=[BATCH_SIZE, count * NUM_STEPS + 1])
  raw = np.cumsum(step, 1) % VOCAB_SIZE
  for i in range(count):
    start = i * NUM_STEPS
    yield (raw[:, start:start + NUM_STEPS],
           raw[:, start + 1:start + NUM_STEPS + 1])


def run_epoch(session, model, count, rng, report, offset):
  costs, norms, state = [], [], None
  for step, (x, y) in enumerate(producer(count, rng)):
    feed_dict = {model.input_data: x, model.targets: y}
    if state is not None:
      feed_dict[model.initial_state] = state
    fetches = {"cost": model.cost, "final_state": model.final_state,
               "eval_op": model.train_op, "norm": model.norm}
    vals = session.run(fetches, feed_dict)
    state = vals["final_state"]
    costs.append(vals["cost"])
    norms.append(vals["norm"])
    report(offset + step, session.graph)
  return costs, norms


def run(report):
  rng = np.random.RandomState(22)
  with tf.Graph().as_default():
    with tf.name_scope("Train"):
      with tf.variable_scope("Model", reuse=None):
        m = PTBModel(True, rng)
    with tf.name_scope("Test"):
      with tf.variable_scope("Model", reuse=True):
        mtest = PTBModel(False)
    costs, norms, relevance, perplexities = [], [], [], []
    with tf.Session() as session:
      session.run(tf.global_variables_initializer())
      for epoch in range(3):
        m.assign_lr(session, 1.0 * 0.8 ** epoch)
        epoch_costs, epoch_norms = run_epoch(
            session, m, 15, rng, report, 15 * epoch)
        costs += epoch_costs
        norms += epoch_norms
      for x, y in producer(10, rng):
        cost, state = session.run(
            [mtest.cost, mtest.final_state],
            {mtest.input_data: x[:1], mtest.targets: y[:1]})
        perplexities.append(np.exp(cost))
        relevance.append(session.run(
            mtest.relevance, feed_dict={mtest.input_data: x[:1],
                                        mtest.initial_state: state}))
        report(len(costs) + len(relevance), session.graph)
  return {"costs": np.array(costs), "norms": np.array(norms),
          "perplexities": np.array(perplexities),
          "relevance": np.array(relevance)}


def main(_):
  results = run(lambda step, graph: None)
  print("cost", results["costs"][0], "to", results["costs"][-1])


if __name__ == "__main__":
  tf.app.run()
