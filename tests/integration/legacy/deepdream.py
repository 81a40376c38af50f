"""Deep dream: a frozen network, a new score for each image and channel."""

import functools

import numpy as np
import tensorflow.compat.v1 as tf

IMAGENET_MEAN = 117.0


def freeze_network():
  """A frozen convolutional network, as a file of a model would have it."""
  rng = np.random.RandomState(13)
  graph = tf.Graph()
  with graph.as_default():
    x = tf.placeholder(tf.float32, [None, None, None, 3], name="input")
    for i, (size, n_in, n_out) in enumerate(
        [(5, 3, 8), (3, 8, 12), (3, 12, 16)]):
      kernel = rng.randn(size, size, n_in, n_out) / np.sqrt(
          size * size * n_in)
      with tf.name_scope("conv%d" % i):
        weights = tf.constant(kernel.astype(np.float32), name="w")
        x = tf.nn.conv2d(x, weights, [1, 1, 1, 1], "SAME", name="pre_relu")
        x = tf.nn.bias_add(x, np.full(n_out, 0.1, np.float32))
        x = tf.nn.relu(x, name="relu")
        x = tf.nn.max_pool(x, [1, 3, 3, 1], [1, 2, 2, 1], "SAME", name="pool")
  return graph.as_graph_def()


def tffunc(*argtypes):
  """Transforms TF-graph generating function into a regular one."""
  placeholders = list(map(tf.placeholder, argtypes))

  def wrap(f):
    out = f(*placeholders)

    @functools.wraps(f)
    def wrapper(*args, **kw):
      return out.eval(dict(zip(placeholders, args)),
                      session=kw.get("session"))
    return wrapper
  return wrap


def resize(img, size):
  img = tf.expand_dims(img, 0)
  return tf.image.resize_bilinear(img, size)[0, :, :, :]


class Dreamer(object):

  def __init__(self, sess, t_input, report):
    self.sess = sess
    self.graph = sess.graph
    self.t_input = t_input
    self.report = report
    self.steps = 0
    self.resize = tffunc(np.float32, np.int32)(resize)

  def T(self, layer):
    """Helper for getting layer output tensor."""
    return self.graph.get_tensor_by_name("import/%s:0" % layer)

  def render_naive(self, t_obj, img0, iter_n=10, step=1.0):
    t_score = tf.reduce_mean(t_obj)  # defining the optimization objective
    # behold the power of automatic differentiation!
    t_grad = tf.gradients(t_score, self.t_input)[0]

    img, scores = img0.copy(), []
    for _ in range(iter_n):
      g, score = self.sess.run([t_grad, t_score], {self.t_input: img})
      # normalizing the gradient, so the same step size should work
      g /= g.std() + 1e-8  # for different layers and networks
      img += g * step
      scores.append(score)
    self.report(self.steps, self.graph)
    self.steps += 1
    return img, scores

  def calc_grad_tiled(self, img, t_grad, rng, tile_size=24):
    """Computes the gradient over tiles, shifted by a random step."""
    sz = tile_size
    h, w = img.shape[:2]
    sx, sy = rng.randint(sz, size=2)
    img_shift = np.roll(np.roll(img, sx, 1), sy, 0)
    grad = np.zeros_like(img)
    for y in range(0, max(h - sz // 2, sz), sz):
      for x in range(0, max(w - sz // 2, sz), sz):
        sub = img_shift[y:y + sz, x:x + sz]
        g = self.sess.run(t_grad, {self.t_input: sub})
        grad[y:y + sz, x:x + sz] = g
    return np.roll(np.roll(grad, -sx, 1), -sy, 0)

  def render_multiscale(self, t_obj, img0, rng, iter_n=4, step=1.0,
                        octave_n=2, octave_scale=1.4):
    t_score = tf.reduce_mean(t_obj)
    t_grad = tf.gradients(t_score, self.t_input)[0]

    img = img0.copy()
    for octave in range(octave_n):
      if octave > 0:
        hw = np.float32(img.shape[:2]) * octave_scale
        img = self.resize(img, np.int32(hw), session=self.sess)
      for _ in range(iter_n):
        g = self.calc_grad_tiled(img, t_grad, rng)
        g /= g.std() + 1e-8
        img += g * step
    self.report(self.steps, self.graph)
    self.steps += 1
    return img


def run(report):
  graph_def = freeze_network()
  graph = tf.Graph()
  with graph.as_default():
    sess = tf.InteractiveSession(graph=graph)
    t_input = tf.placeholder(np.float32, name="input")  # the input tensor
    t_preprocessed = tf.expand_dims(t_input - IMAGENET_MEAN, 0)
    tf.import_graph_def(graph_def, {"input": t_preprocessed})

    rng = np.random.RandomState(14)
    images = [np.float32(rng.uniform(size=(32, 32, 3)) + 100.0)
              for _ in range(3)]
    dreamer = Dreamer(sess, t_input, report)
    results, scores = {}, []
    for n, img0 in enumerate(images):
      for layer, channel in [("conv1/pre_relu", 3), ("conv2/pre_relu", 7),
                             ("conv2/relu", 2)]:
        img, score = dreamer.render_naive(
            dreamer.T(layer)[:, :, :, channel], img0)
        scores.append(score)
        results["image_%d_%s_%d" % (n, layer, channel)] = img
      results["whole_%d" % n] = dreamer.render_naive(
          tf.square(dreamer.T("conv2/pool")), img0)[0]
    results["multiscale"] = dreamer.render_multiscale(
        dreamer.T("conv2/pre_relu")[:, :, :, 5], images[0], rng)
    sess.close()
  results["scores"] = np.array(scores)
  return results


def main(_):
  results = run(lambda step, graph: None)
  print("scores", results["scores"][:, 0], "to", results["scores"][:, -1])


if __name__ == "__main__":
  tf.app.run()
