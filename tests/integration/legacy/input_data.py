"""Small data sets, made of seeded random numbers."""

import numpy as np


def digits(count, size=12, classes=10, seed=0):
  """Blurred patterns of a class each, with noise; pixels in [0, 1].

  Returns:
    (images [count, size, size, 1] float32, labels [count] int32).
  """
  patterns = np.random.RandomState(17).rand(classes, size, size)
  patterns = (patterns + np.roll(patterns, 1, 1) + np.roll(patterns, 1, 2)) / 3
  rng = np.random.RandomState(seed)
  labels = rng.randint(classes, size=count)
  images = patterns[labels] + 0.1 * rng.randn(count, size, size)
  return (np.clip(images, 0, 1)[..., np.newaxis].astype(np.float32),
          labels.astype(np.int32))


class DataSet(object):
  """Batches of a data set, in a seeded order, epoch after epoch."""

  def __init__(self, images, labels, seed=0):
    self.images = images
    self.labels = labels
    self._rng = np.random.RandomState(seed)
    self._order = []

  def next_batch(self, batch_size):
    if len(self._order) < batch_size:
      self._order = list(self._rng.permutation(len(self.images)))
    chosen, self._order = self._order[:batch_size], self._order[batch_size:]
    return self.images[chosen], self.labels[chosen]
