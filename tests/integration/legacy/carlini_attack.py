"""The L2 and L0 attacks of Carlini and Wagner: x is a variable."""

import numpy as np
import tensorflow.compat.v1 as tf

from tests.integration.legacy import input_data

BINARY_SEARCH_STEPS = 3
MAX_ITERATIONS = 25
LEARNING_RATE = 1e-1
INITIAL_CONST = 1.0


class SmallModel(object):
  """Logits of images in [-0.5, 0.5]."""

  image_size = 12
  num_channels = 1
  num_labels = 10

  def __init__(self, rng):
    size = self.image_size ** 2
    self.w1 = tf.Variable((rng.randn(size, 24) * 0.1).astype(np.float32))
    self.b1 = tf.Variable(np.zeros(24, np.float32))
    self.w2 = tf.Variable((rng.randn(24, 10) * 0.3).astype(np.float32))
    self.b2 = tf.Variable(np.zeros(10, np.float32))

  def predict(self, data):
    flat = tf.reshape(data, [-1, self.image_size ** 2])
    return tf.matmul(tf.nn.elu(tf.matmul(flat, self.w1) + self.b1),
                     self.w2) + self.b2


class CarliniL2(object):

  def __init__(self, sess, model, batch_size):
    image_size, num_channels = model.image_size, model.num_channels
    self.sess = sess
    self.batch_size = batch_size
    shape = (batch_size, image_size, image_size, num_channels)

    # the variable we're going to optimize over
    modifier = tf.Variable(np.zeros(shape, dtype=np.float32))
    # these are variables to be more efficient in sending data to tf
    self.timg = tf.Variable(np.zeros(shape), dtype=tf.float32)
    self.tlab = tf.Variable(
        np.zeros((batch_size, model.num_labels)), dtype=tf.float32)
    self.const = tf.Variable(np.zeros(batch_size), dtype=tf.float32)
    # and here's what we use to assign them
    self.assign_timg = tf.placeholder(tf.float32, shape)
    self.assign_tlab = tf.placeholder(
        tf.float32, (batch_size, model.num_labels))
    self.assign_const = tf.placeholder(tf.float32, [batch_size])

    # the resulting image, tanh'd to keep bounded
    self.newimg = tf.tanh(modifier + self.timg) / 2
    self.output = model.predict(self.newimg)
    self.l2dist = tf.reduce_sum(
        tf.square(self.newimg - tf.tanh(self.timg) / 2), [1, 2, 3])
    # compute the probability of the label class versus the maximum other
    real = tf.reduce_sum(self.tlab * self.output, 1)
    other = tf.reduce_max(
        (1 - self.tlab) * self.output - (self.tlab * 10000), 1)
    loss1 = tf.maximum(0.0, other - real)
    self.loss2 = tf.reduce_sum(self.l2dist)
    self.loss1 = tf.reduce_sum(self.const * loss1)
    self.loss = self.loss1 + self.loss2

    # Setup the adam optimizer and keep track of variables we're creating
    start_vars = set(x.name for x in tf.global_variables())
    optimizer = tf.train.AdamOptimizer(LEARNING_RATE)
    self.grad, = tf.gradients(self.loss, [modifier])
    self.train = optimizer.apply_gradients([(self.grad, modifier)])
    end_vars = tf.global_variables()
    new_vars = [x for x in end_vars if x.name not in start_vars]

    # these are the variables to initialize when we run
    self.setup = []
    self.setup.append(self.timg.assign(self.assign_timg))
    self.setup.append(self.tlab.assign(self.assign_tlab))
    self.setup.append(self.const.assign(self.assign_const))
    self.init = tf.variables_initializer(var_list=[modifier] + new_vars)

  def attack(self, imgs, labs, report):
    imgs = np.arctanh(imgs * 1.999999)
    batch_size = self.batch_size
    lower_bound = np.zeros(batch_size)
    const = np.ones(batch_size) * INITIAL_CONST
    upper_bound = np.ones(batch_size) * 1e10
    o_bestl2 = [1e10] * batch_size
    o_bestattack = [np.zeros(imgs[0].shape)] * batch_size
    history = []

    for outer_step in range(BINARY_SEARCH_STEPS):
      # completely reset adam's internal state.
      self.sess.run(self.init)
      bestscore = [-1] * batch_size
      # set the variables so that we don't have to send them over again
      self.sess.run(self.setup, {self.assign_timg: imgs,
                                 self.assign_tlab: labs,
                                 self.assign_const: const})
      for _ in range(MAX_ITERATIONS):
        # perform the attack
        _, l, l2s, scores, nimg = self.sess.run(
            [self.train, self.loss, self.l2dist, self.output, self.newimg])
        history.append(l)
        for e, (l2, sc, ii) in enumerate(zip(l2s, scores, nimg)):
          if np.argmax(sc) == np.argmax(labs[e]):
            bestscore[e] = np.argmax(sc)
            if l2 < o_bestl2[e]:
              o_bestl2[e] = l2
              o_bestattack[e] = ii
      # adjust the constant as needed
      for e in range(batch_size):
        if bestscore[e] != -1:
          upper_bound[e] = min(upper_bound[e], const[e])
        else:
          lower_bound[e] = max(lower_bound[e], const[e])
        if upper_bound[e] < 1e9:
          const[e] = (lower_bound[e] + upper_bound[e]) / 2
        else:
          const[e] *= 10
      report(outer_step, self.sess.graph)
    return np.array(o_bestattack), np.array(o_bestl2), np.array(history)


class CarliniL0(object):
  """Fixes the pixels that matter least, round after round."""

  def __init__(self, sess, model):
    self.sess = sess
    shape = (1, model.image_size, model.image_size, model.num_channels)
    # the variable to optimize over
    modifier = tf.Variable(np.zeros(shape, dtype=np.float32))
    # the variables we're going to hold, use for efficiency
    self.canchange = tf.Variable(np.zeros(shape), dtype=np.float32)
    self.simg = tf.Variable(np.zeros(shape, dtype=np.float32))
    self.original = tf.Variable(np.zeros(shape, dtype=np.float32))
    self.timg = tf.Variable(np.zeros(shape, dtype=np.float32))
    self.tlab = tf.Variable(
        np.zeros((1, model.num_labels), dtype=np.float32))
    const = tf.placeholder(tf.float32, [])
    # and the assignment to set the variables
    assign_modifier = tf.placeholder(np.float32, shape)
    assign_canchange = tf.placeholder(np.float32, shape)
    assign_simg = tf.placeholder(np.float32, shape)
    assign_original = tf.placeholder(np.float32, shape)
    assign_timg = tf.placeholder(np.float32, shape)
    assign_tlab = tf.placeholder(np.float32, (1, model.num_labels))
    set_modifier = tf.assign(modifier, assign_modifier)
    setup = [tf.assign(self.canchange, assign_canchange),
             tf.assign(self.timg, assign_timg),
             tf.assign(self.original, assign_original),
             tf.assign(self.simg, assign_simg),
             tf.assign(self.tlab, assign_tlab)]

    newimg = (tf.tanh(modifier + self.simg) / 2) * self.canchange + (
        1 - self.canchange) * self.original
    output = model.predict(newimg)
    real = tf.reduce_sum(self.tlab * output, 1)
    other = tf.reduce_max(
        (1 - self.tlab) * output - (self.tlab * 10000), 1)
    loss1 = tf.maximum(0.0, other - real + 0.01)
    loss2 = tf.reduce_sum(tf.square(newimg - tf.tanh(self.timg) / 2))
    loss = const * loss1 + loss2
    # we don't care about the gradients of what is held
    outgrad = tf.gradients(loss, [modifier])[0]

    # setup the adam optimizer and keep track of variables we're creating
    start_vars = set(x.name for x in tf.global_variables())
    optimizer = tf.train.AdamOptimizer(LEARNING_RATE)
    train = optimizer.minimize(loss, var_list=[modifier])
    new_vars = [
        x for x in tf.global_variables() if x.name not in start_vars]
    init = tf.variables_initializer(
        var_list=[modifier, self.canchange, self.simg, self.original,
                  self.timg, self.tlab] + new_vars)

    def doit(oimgs, labs, starts, valid, cc):
      # convert to tanh-space
      imgs = np.arctanh(np.array(oimgs) * 1.999999)
      starts = np.arctanh(np.array(starts) * 1.999999)
      # initialize the variables
      sess.run(init)
      sess.run(setup, {assign_timg: imgs, assign_tlab: labs,
                       assign_simg: starts, assign_original: oimgs,
                       assign_canchange: valid})
      while cc < 1e3:
        # set to the value we want it to be
        sess.run(set_modifier, {assign_modifier: np.zeros(shape)})
        for _ in range(MAX_ITERATIONS):
          _, works = sess.run([train, loss1], feed_dict={const: cc})
        if works[0] < 0.01:
          # it worked previously, restore the old value and finish
          grads, scores, nimg = sess.run(
              (outgrad, output, newimg), feed_dict={const: cc})
          return grads, scores, nimg, cc
        # we didn't succeed, increase constant and try again
        cc *= 4
      return None

    self.doit = doit

  def attack_single(self, img, target, report):
    # the pixels we can change
    valid = np.ones((1,) + img.shape)
    last_solution, prev, const = None, np.copy(img).reshape(valid.shape), 1.0
    counts, gradients = [], []
    for step in range(6):
      res = self.doit([np.copy(img)], [target], prev, valid, const)
      report(step, self.sess.graph)
      if res is None:
        break
      gradientnorm, _, nimg, const = res
      gradients.append(gradientnorm)
      # set the pixels that change least to be unchangeable
      totalchange = abs(nimg[0] - img) * np.abs(gradientnorm[0])
      valid = valid.flatten()
      all_changeable = np.where(valid != 0)[0]
      order = all_changeable[
          np.argsort(totalchange.flatten()[all_changeable], kind="stable")]
      valid[order[:max(1, int(0.25 * len(order)))]] = 0
      counts.append(np.sum(valid))
      valid = valid.reshape((1,) + img.shape)
      last_solution = prev = nimg
    return last_solution, np.array(counts), np.concatenate(gradients)


def _train(sess, model, data):
  x = tf.placeholder(tf.float32, [None, 12, 12, 1])
  y = tf.placeholder(tf.int32, [None])
  loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(
      labels=y, logits=model.predict(x)))
  step = tf.train.MomentumOptimizer(0.05, 0.9).minimize(loss)
  sess.run(tf.global_variables_initializer())
  for _ in range(60):
    images, labels = data.next_batch(32)
    step.run(feed_dict={x: images - 0.5, y: labels}, session=sess)


def run(report):
  data = input_data.DataSet(*input_data.digits(300, seed=4))
  with tf.Graph().as_default(), tf.Session() as sess:
    model = SmallModel(np.random.RandomState(5))
    _train(sess, model, data)
    inputs = np.clip(data.images[:4] - 0.5, -0.49, 0.49)
    targets = np.eye(10)[(data.labels[:4] + 1) % 10]
    attack = CarliniL2(sess, model, 4)
    adv, l2, history = attack.attack(inputs, targets, report)
  with tf.Graph().as_default(), tf.Session() as sess:
    model = SmallModel(np.random.RandomState(5))
    _train(sess, model, data)
    solution, counts, gradients = CarliniL0(sess, model).attack_single(
        inputs[0], targets[0], report)
  return {"adv": adv, "l2": l2, "history": history, "solution": solution,
          "counts": counts, "gradients": gradients}


def main(_):
  results = run(lambda step, graph: None)
  print("distances", results["l2"])
  print("pixels left", results["counts"])


if __name__ == "__main__":
  tf.app.run()
