"""Saliency maps of a classifier: five ways to see what it looks at."""

import numpy as np
import tensorflow.compat.v1 as tf

from tests.integration.legacy import input_data


class SaliencyMask(object):
  """Base class for saliency masks. Alone, this class doesn't do anything."""

  def __init__(self, graph, session, y, x):
    size = 1
    for shape in y.shape:
      size *= int(shape)
    assert size == 1
    self.graph = graph
    self.session = session
    self.y = y
    self.x = x

  def GetMask(self, x_value, feed_dict=None):
    raise NotImplementedError("A derived class should implemented GetMask()")

  def GetSmoothedMask(self, x_value, feed_dict=None, stdev_spread=.15,
                      nsamples=15, magnitude=True, **kwargs):
    """A mask that is averaged over noisy copies."""
    rng = np.random.RandomState(19)
    stdev = stdev_spread * (np.max(x_value) - np.min(x_value))
    total_gradients = np.zeros_like(x_value)
    for _ in range(nsamples):
      noise = rng.normal(0, stdev, x_value.shape)
      grad = self.GetMask(x_value + noise, feed_dict or {}, **kwargs)
      total_gradients += grad * grad if magnitude else grad
    return total_gradients / nsamples


class GradientSaliency(SaliencyMask):

  def __init__(self, graph, session, y, x):
    super(GradientSaliency, self).__init__(graph, session, y, x)
    with graph.as_default():
      self.gradients_node = tf.gradients(y, x)[0]

  def GetMask(self, x_value, feed_dict=None):
    feed_dict = dict(feed_dict or {})
    feed_dict[self.x] = [x_value]
    return self.session.run(self.gradients_node, feed_dict=feed_dict)[0]


class IntegratedGradients(GradientSaliency):

  def GetMask(self, x_value, feed_dict=None, x_baseline=None, x_steps=25):
    if x_baseline is None:
      x_baseline = np.zeros_like(x_value)
    x_diff = x_value - x_baseline
    total_gradients = np.zeros_like(x_value)
    for alpha in np.linspace(0, 1, x_steps):
      total_gradients += super(IntegratedGradients, self).GetMask(
          x_baseline + alpha * x_diff, feed_dict)
    return total_gradients * x_diff / x_steps


class GradCam(SaliencyMask):

  def __init__(self, graph, session, y, x, conv_layer):
    super(GradCam, self).__init__(graph, session, y, x)
    self.conv_layer = conv_layer
    with graph.as_default():
      self.gradients_node = tf.gradients(y, conv_layer)[0]

  def GetMask(self, x_value, feed_dict=None, should_resize=True):
    feed_dict = dict(feed_dict or {})
    feed_dict[self.x] = [x_value]
    output, grad = self.session.run(
        [self.conv_layer, self.gradients_node], feed_dict=feed_dict)
    weights = np.mean(grad[0], axis=(0, 1))
    grad_cam = np.maximum(np.sum(weights * output[0], -1), 0)
    if should_resize:
      grad_cam = np.kron(grad_cam, np.ones(
          [a // b for a, b in zip(x_value.shape, grad_cam.shape)]))
    return grad_cam


class GuidedBackprop(SaliencyMask):
  """Backpropagates only what is positive, in a copy of the graph."""

  registered = False

  def __init__(self, graph, session, y, x):
    super(GuidedBackprop, self).__init__(graph, session, y, x)
    if not GuidedBackprop.registered:

      @tf.RegisterGradient("LegacyGuidedRelu")
      def _GuidedReluGrad(op, grad):
        gate_g = tf.cast(grad > 0, "float32")
        gate_y = tf.cast(op.outputs[0] > 0, "float32")
        return gate_y * gate_g * grad

      GuidedBackprop.registered = True

    with graph.as_default():
      saver = tf.train.Saver()
      values = session.run(tf.global_variables())
      graph_def = tf.train.export_meta_graph(
          graph=graph, saver_def=saver.as_saver_def())
    self.guided_graph = tf.Graph()
    with self.guided_graph.as_default():
      self.guided_sess = tf.Session(graph=self.guided_graph)
      with self.guided_graph.gradient_override_map(
          {"Relu": "LegacyGuidedRelu"}):
        tf.train.import_meta_graph(graph_def)
      for variable, value in zip(tf.global_variables(), values):
        variable.load(value, self.guided_sess)
      self.imported_y = self.guided_graph.get_tensor_by_name(y.name)
      self.imported_x = self.guided_graph.get_tensor_by_name(x.name)
      self.guided_grads_node = tf.gradients(
          self.imported_y, self.imported_x)[0]

  def GetMask(self, x_value, feed_dict=None):
    with self.guided_graph.as_default():
      guided_feed_dict = {}
      for tensor in feed_dict or {}:
        guided_feed_dict[tensor.name] = feed_dict[tensor]
      guided_feed_dict[self.x.name] = [x_value]
      return self.guided_sess.run(
          self.guided_grads_node, feed_dict=guided_feed_dict)[0]


def build():
  rng = np.random.RandomState(20)
  images = tf.placeholder(tf.float32, [None, 12, 12, 1], name="images")
  neuron_selector = tf.placeholder(tf.int32, name="neuron")
  h = images
  for i, (n_in, n_out) in enumerate([(1, 8), (8, 12)]):
    with tf.variable_scope("conv%d" % i):
      w = tf.get_variable("w", initializer=(rng.randn(
          3, 3, n_in, n_out) / (3 * np.sqrt(n_in))).astype(np.float32))
      b = tf.get_variable(
          "b", [n_out], initializer=tf.zeros_initializer())
      h = tf.nn.relu(tf.nn.conv2d(h, w, [1, 1, 1, 1], "SAME") + b,
                     name="relu")
      if i == 0:
        h = tf.nn.max_pool(h, [1, 2, 2, 1], [1, 2, 2, 1], "VALID")
  last_conv = h
  w = tf.get_variable("w", initializer=(
      rng.randn(6 * 6 * 12, 10) * 0.05).astype(np.float32))
  logits = tf.matmul(tf.reshape(h, [-1, 6 * 6 * 12]), w, name="logits")
  prediction = tf.argmax(logits, 1)
  y = logits[0][neuron_selector]
  return images, logits, prediction, neuron_selector, y, last_conv


def train(sess, images, logits, data):
  labels = tf.placeholder(tf.int32, [None], name="labels")
  loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(
      labels=labels, logits=logits))
  step = tf.train.AdamOptimizer(0.01).minimize(loss)
  sess.run(tf.global_variables_initializer())
  for _ in range(30):
    x, y = data.next_batch(32)
    sess.run([step, loss], feed_dict={images: x, labels: y})


def run(report):
  data = input_data.DataSet(*input_data.digits(200, seed=21))
  graph = tf.Graph()
  with graph.as_default():
    sess = tf.Session(graph=graph)
    images, logits, prediction, neuron_selector, y, last_conv = build()
    train(sess, images, logits, data)

    gradient_saliency = GradientSaliency(graph, sess, y, images)
    integrated = IntegratedGradients(graph, sess, y, images)
    grad_cam = GradCam(graph, sess, y, images, last_conv)
    guided = GuidedBackprop(graph, sess, y, images)
    results = {}
    for i in range(8):
      image = data.images[i].astype(np.float64)
      prediction_class = sess.run(prediction, {images: [image]})[0]
      feed_dict = {neuron_selector: prediction_class}
      results["vanilla_%d" % i] = gradient_saliency.GetMask(image, feed_dict)
      results["smooth_%d" % i] = gradient_saliency.GetSmoothedMask(
          image, feed_dict)
      results["integrated_%d" % i] = integrated.GetMask(image, feed_dict)
      results["grad_cam_%d" % i] = grad_cam.GetMask(image, feed_dict)
      results["guided_%d" % i] = guided.GetMask(image, feed_dict)
      results["smooth_guided_%d" % i] = guided.GetSmoothedMask(
          image, feed_dict, magnitude=False, nsamples=5)
      report(i, graph)
    guided.guided_sess.close()
    sess.close()
  return results


def main(_):
  results = run(lambda step, graph: None)
  print("attributions add up to",
        [results["integrated_%d" % i].sum() for i in range(8)])


if __name__ == "__main__":
  tf.app.run()
