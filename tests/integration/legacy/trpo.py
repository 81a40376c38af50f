"""Trust region policy optimisation with conjugate gradient, by hand."""

import numpy as np
import tensorflow.compat.v1 as tf

ITERATIONS = 6
EPISODES = 8
HORIZON = 25
MAX_KL = 0.01
CG_DAMPING = 0.1
CG_ITERS = 10
GAMMA = 0.95


def var_shape(x):
  return [dim.value if hasattr(dim, "value") else dim for dim in x.shape]


def numel(x):
  return int(np.prod(var_shape(x)))


def flatgrad(loss, var_list):
  grads = tf.gradients(loss, var_list)
  return tf.concat([
      tf.reshape(grad if grad is not None else tf.zeros_like(v), [numel(v)])
      for v, grad in zip(var_list, grads)], 0)


class SetFromFlat(object):

  def __init__(self, var_list):
    assigns = []
    shapes = list(map(var_shape, var_list))
    total_size = int(np.sum([np.prod(shape) for shape in shapes]))
    self.theta = theta = tf.placeholder(tf.float32, [total_size])
    start = 0
    for shape, v in zip(shapes, var_list):
      size = int(np.prod(shape))
      assigns.append(
          tf.assign(v, tf.reshape(theta[start:start + size], shape)))
      start += size
    self.op = tf.group(*assigns)

  def __call__(self, theta):
    tf.get_default_session().run(self.op, feed_dict={self.theta: theta})


class GetFlat(object):

  def __init__(self, var_list):
    self.op = tf.concat([tf.reshape(v, [numel(v)]) for v in var_list], 0)

  def __call__(self):
    return self.op.eval()


class Function(object):
  """Like theano's function; `updates` are run as well."""

  def __init__(self, inputs, outputs, updates=()):
    self.inputs = inputs
    self.outputs = outputs
    self.update_group = tf.group(*updates)

  def __call__(self, *inputvals):
    assert len(inputvals) == len(self.inputs)
    feed_dict = dict(zip(self.inputs, inputvals))
    results = tf.get_default_session().run(
        list(self.outputs) + [self.update_group], feed_dict=feed_dict)
    return results[:-1]


def cg(f_ax, b, cg_iters=10, residual_tol=1e-10):
  p = b.copy()
  r = b.copy()
  x = np.zeros_like(b)
  rdotr = r.dot(r)
  for _ in range(cg_iters):
    z = f_ax(p)
    v = rdotr / p.dot(z)
    x += v * p
    r -= v * z
    newrdotr = r.dot(r)
    mu = newrdotr / rdotr
    p = r + mu * p
    rdotr = newrdotr
    if rdotr < residual_tol:
      break
  return x


class PointMass(object):
  """A mass in the plane that is to be brought to the origin."""

  def __init__(self, rng):
    self._rng = rng

  def reset(self):
    self._state = np.concatenate([self._rng.randn(2), np.zeros(2)])
    return self._state.copy()

  def step(self, action):
    position, velocity = self._state[:2], self._state[2:]
    velocity = 0.9 * velocity + 0.1 * np.clip(action, -2, 2)
    self._state = np.concatenate([position + 0.5 * velocity, velocity])
    return self._state.copy(), -np.sum(self._state[:2] ** 2)


def dense(x, size, name, rng, scale=1.0):
  fan_in = var_shape(x)[1]
  w = tf.get_variable(name + "/w", initializer=(
      scale * rng.randn(fan_in, size) / np.sqrt(fan_in)).astype(np.float32))
  b = tf.get_variable(
      name + "/b", [size], initializer=tf.zeros_initializer())
  return tf.matmul(x, w) + b


class TRPOAgent(object):

  def __init__(self, rng):
    self.rng = rng
    self.obs = obs = tf.placeholder(tf.float32, [None, 4], name="obs")
    self.action = action = tf.placeholder(tf.float32, [None, 2], name="act")
    self.advant = advant = tf.placeholder(tf.float32, [None], name="advant")
    self.oldmean = oldmean = tf.placeholder(tf.float32, [None, 2])
    self.oldlogstd = oldlogstd = tf.placeholder(tf.float32, [1, 2])

    with tf.variable_scope("pi"):
      h = tf.nn.tanh(dense(obs, 16, "fc1", rng))
      h = tf.nn.tanh(dense(h, 16, "fc2", rng))
      self.mean = mean = dense(h, 2, "mean", rng, 0.01)
      self.logstd = logstd = tf.get_variable(
          "logstd", [1, 2], initializer=tf.zeros_initializer())

    def log_likelihood(actions, mu, log_sigma):
      return tf.reduce_sum(
          -0.5 * tf.square((actions - mu) / tf.exp(log_sigma)) - log_sigma -
          0.5 * np.log(2 * np.pi), 1)

    ratio = tf.exp(log_likelihood(action, mean, logstd) -
                   log_likelihood(action, oldmean, oldlogstd))
    surr = -tf.reduce_mean(ratio * advant)
    kl = tf.reduce_mean(tf.reduce_sum(
        logstd - oldlogstd + (tf.exp(2 * oldlogstd) + tf.square(
            oldmean - mean)) / (2 * tf.exp(2 * logstd)) - 0.5, 1))
    ent = tf.reduce_sum(logstd + 0.5 * np.log(2 * np.pi * np.e))
    self.losses = [surr, kl, ent]
    self.var_list = var_list = tf.get_collection(
        tf.GraphKeys.TRAINABLE_VARIABLES, scope="pi")
    self.pg = flatgrad(surr, var_list)

    # KL divergence where first arg is fixed
    fixed_mean, fixed_logstd = map(tf.stop_gradient, [mean, logstd])
    kl_firstfixed = tf.reduce_mean(tf.reduce_sum(
        logstd - fixed_logstd + (tf.exp(2 * fixed_logstd) + tf.square(
            fixed_mean - mean)) / (2 * tf.exp(2 * logstd)) - 0.5, 1))
    grads = tf.gradients(kl_firstfixed, var_list)
    self.flat_tangent = tf.placeholder(tf.float32, shape=[None])
    start, tangents = 0, []
    for v in var_list:
      size = numel(v)
      tangents.append(tf.reshape(
          self.flat_tangent[start:start + size], var_shape(v)))
      start += size
    gvp = [tf.reduce_sum(g * t) for (g, t) in zip(grads, tangents)]
    self.fvp = flatgrad(gvp, var_list)

    args = [obs, action, advant, oldmean, oldlogstd]
    self.compute_losses = Function(args, self.losses)
    self.compute_grad = Function(args, [self.pg])
    self.compute_fvp = Function([self.flat_tangent] + args, [self.fvp])
    self.gf = GetFlat(var_list)
    self.sff = SetFromFlat(var_list)

  def act(self, ob):
    mean, logstd = tf.get_default_session().run(
        [self.mean, self.logstd], {self.obs: ob[None]})
    return (mean + np.exp(logstd) * self.rng.randn(*mean.shape))[0], mean[0]

  def rollout(self, env):
    obs, acts, means, returns = [], [], [], []
    for _ in range(EPISODES):
      ob, rewards = env.reset(), []
      for _ in range(HORIZON):
        obs.append(ob)
        action, mean = self.act(ob)
        ob, reward = env.step(action)
        acts.append(action)
        means.append(mean)
        rewards.append(reward)
      ret, acc = [], 0.0
      for reward in rewards[::-1]:
        acc = reward + GAMMA * acc
        ret.append(acc)
      returns.extend(ret[::-1])
    return tuple(map(np.array, (obs, acts, means, returns)))

  def learn_step(self, env):
    obs, acts, means, returns = self.rollout(env)
    advant = (returns - returns.mean()) / (returns.std() + 1e-8)
    args = obs, acts, advant, means, self.logstd.eval()
    thprev = self.gf()
    g, = self.compute_grad(*args)

    def fisher_vector_product(p):
      return self.compute_fvp(p, *args)[0] + CG_DAMPING * p

    stepdir = cg(fisher_vector_product, -g, CG_ITERS)
    shs = 0.5 * stepdir.dot(fisher_vector_product(stepdir))
    lm = np.sqrt(shs / MAX_KL)
    fullstep = stepdir / lm
    surrbefore = self.compute_losses(*args)[0]
    stepsize = 1.0
    for _ in range(10):
      self.sff(thprev + fullstep * stepsize)
      surr, kl, _ = self.compute_losses(*args)
      if kl <= MAX_KL * 1.5 and surr < surrbefore:
        break
      stepsize *= 0.5
    else:
      self.sff(thprev)
    return returns.mean(), surr, kl, stepdir


def run(report):
  rng = np.random.RandomState(6)
  env = PointMass(rng)
  agent = TRPOAgent(rng)
  history, steps = [], []
  with tf.Session() as sess:
    sess.run(tf.global_variables_initializer())
    for i in range(ITERATIONS):
      mean_return, surr, kl, stepdir = agent.learn_step(env)
      history.append([mean_return, surr, kl])
      steps.append(stepdir)
      report(i, sess.graph)
    theta = agent.gf()
  return {"history": np.array(history), "steps": np.array(steps),
          "theta": theta}


def main(_):
  for i, (mean_return, surr, kl) in enumerate(
      run(lambda step, graph: None)["history"]):
    print("%d return %.3f surrogate %.4f KL %.5f" % (i, mean_return, surr, kl))


if __name__ == "__main__":
  tf.disable_v2_behavior()
  tf.app.run()
