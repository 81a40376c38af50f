"""A WGAN with gradient penalty on a ring of eight Gaussians."""

import numpy as np
import tensorflow.compat.v1 as tf

DIM = 32
BATCH_SIZE = 64
CRITIC_ITERS = 5
ITERS = 25
LAMBDA = .1

_params = {}


def param(name, value):
  """A shared parameter, by its name."""
  if name not in _params:
    _params[name] = tf.Variable(value, name=name)
  return _params[name]


def linear(name, input_dim, output_dim, inputs, rng):
  stdev = np.sqrt(2.0 / (input_dim + output_dim))
  weight = param(name + ".W", rng.normal(
      scale=stdev, size=(input_dim, output_dim)).astype("float32"))
  bias = param(name + ".b", np.zeros(output_dim, dtype="float32"))
  return tf.nn.bias_add(tf.matmul(inputs, weight), bias)


def ReLULayer(name, n_in, n_out, inputs, rng):
  return tf.nn.relu(linear(name + ".Linear", n_in, n_out, inputs, rng))


def Generator(n_samples, rng):
  noise = tf.random_normal([n_samples, 2])
  output = ReLULayer("Generator.1", 2, DIM, noise, rng)
  output = ReLULayer("Generator.2", DIM, DIM, output, rng)
  return linear("Generator.3", DIM, 2, output, rng)


def Discriminator(inputs, rng):
  output = ReLULayer("Discriminator.1", 2, DIM, inputs, rng)
  output = ReLULayer("Discriminator.2", DIM, DIM, output, rng)
  output = linear("Discriminator.3", DIM, 1, output, rng)
  return tf.reshape(output, [-1])


def params_with_name(name):
  return [p for n, p in sorted(_params.items()) if name in n]


def inf_train_gen(rng):
  centers = 2. * np.array([(np.cos(a), np.sin(a)) for a in
                           np.arange(8) * np.pi / 4])
  while True:
    points = .02 * rng.randn(BATCH_SIZE, 2)
    points += centers[rng.randint(8, size=BATCH_SIZE)]
    yield (points / 1.414).astype("float32")


def run(report):
  _params.clear()
  graph = tf.Graph()
  with graph.as_default():
    tf.set_random_seed(1)
    rng = np.random.RandomState(11)

    real_data = tf.placeholder(tf.float32, shape=[None, 2])
    fake_data = Generator(BATCH_SIZE, rng)
    disc_real = Discriminator(real_data, rng)
    disc_fake = Discriminator(fake_data, rng)

    # WGAN loss
    disc_cost = tf.reduce_mean(disc_fake) - tf.reduce_mean(disc_real)
    gen_cost = -tf.reduce_mean(disc_fake)

    # WGAN gradient penalty
    alpha = tf.random_uniform(shape=[BATCH_SIZE, 1], minval=0., maxval=1.)
    interpolates = alpha * real_data + ((1 - alpha) * fake_data)
    disc_interpolates = Discriminator(interpolates, rng)
    gradients = tf.gradients(disc_interpolates, [interpolates])[0]
    slopes = tf.sqrt(tf.reduce_sum(tf.square(gradients),
                                   reduction_indices=[1]))
    gradient_penalty = tf.reduce_mean((slopes - 1) ** 2)
    disc_cost += LAMBDA * gradient_penalty

    # the cost is that of the weights before the update
    with tf.control_dependencies([disc_cost]):
      disc_train_op = tf.train.AdamOptimizer(
          learning_rate=1e-3, beta1=0.5, beta2=0.9).minimize(
              disc_cost, var_list=params_with_name("Discriminator"),
              gate_gradients=tf.train.Optimizer.GATE_GRAPH)
    gen_params = params_with_name("Generator")
    gen_train_op = tf.train.AdamOptimizer(
        learning_rate=1e-3, beta1=0.5, beta2=0.9).apply_gradients(
            zip(tf.gradients(gen_cost, gen_params, gate_gradients=True),
                gen_params))
    # noise of the scheduler's own, drawn after all gradients are built
    jitter = tf.random_normal([2], stddev=1e-3)

    disc_costs, penalties, jitters = [], [], []
    with tf.Session() as session:
      session.run(tf.global_variables_initializer())
      gen = inf_train_gen(rng)
      for iteration in range(ITERS):
        # Train generator
        if iteration > 0:
          _ = session.run(gen_train_op)
        # Train critic
        for _ in range(CRITIC_ITERS):
          _data = next(gen)
          _disc_cost, _ = session.run(
              [disc_cost, disc_train_op], feed_dict={real_data: _data})
        disc_costs.append(_disc_cost)
        penalties.append(session.run(
            gradient_penalty, feed_dict={real_data: _data}))
        jitters.append(session.run(jitter))
        report(iteration, graph)
      samples = session.run(fake_data)
      data_gradient = session.run(gradients, {real_data: _data})
  return {"disc_costs": np.array(disc_costs), "samples": samples,
          "penalties": np.array(penalties), "jitters": np.array(jitters),
          "data_gradient": data_gradient}


def main(_):
  results = run(lambda step, graph: None)
  print("critic", results["disc_costs"][-1])
  print("penalty", results["penalties"][-1])


if __name__ == "__main__":
  tf.app.run()
