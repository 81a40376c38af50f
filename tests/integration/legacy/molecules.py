"""A Behler-Parrinello network, fitted to energies and forces."""

import numpy as np
import tensorflow.compat.v1 as tf

ATOMS = 5
CUTOFF = 4.0
ETAS = np.array([0.05, 0.4, 1.0, 2.0, 4.0])
CENTERS = np.array([0.0, 1.0, 1.5, 2.0, 2.5])
BATCH_SIZE = 16
STEPS = 80


def morse(positions):
  """Energies [n] and forces [n, atoms, 3] of a Morse potential."""
  d = positions[:, :, None] - positions[:, None]
  r = np.sqrt(np.sum(d ** 2, -1) + np.eye(ATOMS))
  e = np.exp(-1.5 * (r - 1.5)) * (1 - np.eye(ATOMS))
  energy = 0.5 * np.sum(0.3 * (e ** 2 - 2 * e), (1, 2))
  slope = 0.3 * (2 * e - 2 * e ** 2) * 1.5
  return energy, -np.sum((slope / r)[..., None] * d, 2)


def make_configurations(count, rng):
  lattice = np.array([[0, 0, 0], [1.5, 0, 0], [0, 1.5, 0], [0, 0, 1.5],
                      [1.2, 1.2, 1.2]])
  return lattice + 0.15 * rng.randn(count, ATOMS, 3)


class AtomicNetworks(object):

  def __init__(self, species, rng):
    self.positions = tf.placeholder(
        tf.float64, [None, ATOMS, 3], name="positions")
    self.ref_energy = tf.placeholder(tf.float64, [None], name="ref_energy")
    self.ref_forces = tf.placeholder(
        tf.float64, [None, ATOMS, 3], name="ref_forces")

    descriptors = self.symmetry_functions()
    energies = []
    for kind in sorted(set(species)):
      atoms = [i for i, s in enumerate(species) if s == kind]
      own = tf.gather(descriptors, atoms, axis=1)
      with tf.variable_scope("network_%s" % kind):
        energies.append(self.network(own, rng))
    self.atomic_energies = tf.concat(energies, 1)
    self.energy = tf.reduce_sum(self.atomic_energies, 1)
    self.forces = -tf.gradients(self.energy, self.positions)[0]

    self.energy_loss = tf.reduce_mean(
        tf.squared_difference(self.energy, self.ref_energy))
    self.force_loss = tf.reduce_mean(
        tf.squared_difference(self.forces, self.ref_forces))
    self.loss = self.energy_loss + 10.0 * self.force_loss
    self.global_step = tf.train.get_or_create_global_step()
    rate = tf.train.exponential_decay(
        tf.constant(0.01, tf.float64), self.global_step, 50, 0.8)
    optimizer = tf.train.AdamOptimizer(rate)
    grads_and_vars = optimizer.compute_gradients(
        self.loss, gate_gradients=optimizer.GATE_GRAPH)
    self.train_op = optimizer.apply_gradients(
        grads_and_vars, global_step=self.global_step)
    self.grad_norm = tf.global_norm([g for g, _ in grads_and_vars])

  def symmetry_functions(self):
    """Radial symmetry functions [n, atoms, functions]."""
    d = tf.expand_dims(self.positions, 2) - tf.expand_dims(self.positions, 1)
    eye = tf.eye(ATOMS, dtype=tf.float64)
    r = tf.sqrt(tf.reduce_sum(tf.square(d), -1) + eye)
    inside = tf.cast(tf.less(r, CUTOFF), tf.float64) * (1 - eye)
    fc = 0.5 * (tf.cos(np.pi * r / CUTOFF) + 1) * inside
    exponent = -ETAS * tf.square(tf.expand_dims(r, -1) - CENTERS)
    return tf.reduce_sum(tf.exp(exponent) * tf.expand_dims(fc, -1), 2)

  def network(self, own, rng):
    h = tf.reshape(own, [-1, len(ETAS)])
    sizes = [len(ETAS), 10, 10, 1]
    for i in range(3):
      w = tf.get_variable("w%d" % i, initializer=rng.randn(
          sizes[i], sizes[i + 1]) / np.sqrt(sizes[i]))
      b = tf.get_variable("b%d" % i, initializer=np.zeros(sizes[i + 1]))
      h = tf.matmul(h, w) + b
      if i < 2:
        h = tf.tanh(h)
    return tf.reshape(h, [-1, own.shape.as_list()[1]])

  def get_forces(self, positions):
    return self.forces.eval({self.positions: positions[None]})[0]


def molecular_dynamics(model, positions, steps, dt, report, offset):
  """Velocity Verlet; the trajectory [steps, atoms, 3]."""
  velocities = np.zeros_like(positions)
  forces, trajectory = model.get_forces(positions), []
  for i in range(steps):
    velocities += 0.5 * dt * forces
    positions = positions + dt * velocities
    forces = model.get_forces(positions)
    velocities += 0.5 * dt * forces
    trajectory.append(positions)
    report(offset + i, tf.get_default_graph())
  return np.array(trajectory)


def run(report):
  rng = np.random.RandomState(15)
  train = make_configurations(128, rng)
  test = make_configurations(20, rng)
  with tf.Graph().as_default() as graph:
    model = AtomicNetworks("AABBA", rng)
    history = []
    with tf.Session() as sess:
      sess.run(tf.global_variables_initializer())
      for step in range(STEPS):
        batch = train[rng.permutation(len(train))[:BATCH_SIZE]]
        energy, forces = morse(batch)
        result = sess.run(
            {"train": model.train_op, "energy": model.energy_loss,
             "forces": model.force_loss, "norm": model.grad_norm},
            feed_dict={"positions:0": batch, "ref_energy:0": energy,
                       "ref_forces:0": forces})
        history.append(
            [result["energy"], result["forces"], result["norm"]])
        report(step, graph)
      energy, forces = sess.run(
          (model.energy, model.forces), {model.positions: test})
      trajectory = molecular_dynamics(
          model, test[0], 150, 0.05, report, STEPS)
  return {"history": np.array(history), "energy": energy, "forces": forces,
          "trajectory": trajectory}


def main(_):
  results = run(lambda step, graph: None)
  print("energy, force, gradient norm", results["history"][-1])


if __name__ == "__main__":
  tf.app.run()
