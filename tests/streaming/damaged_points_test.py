"""Files of points that are damaged: an error of one kind, or right numbers."""

import os
import random

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from tests.testing import folders
from tests.testing import graphs

_TRIES = int(os.environ.get("GRADFEED_TRIES", 12))


class DamagedPointsTest(folders.FolderTest, graphs.GraphTest):

  def setUp(self):
    super().setUp()
    self.points = np.random.RandomState(0).normal(size=[23, 3]).astype("f")
    x = tf.placeholder(tf.float32, [None, 3], name="x")
    self.f = gf.function(x, 2.0 * x, session=self.session)

  def write(self, name):
    path = self.path(name)
    if name.endswith(".npy"):
      np.save(path, self.points)
    elif name == "z.npz":
      np.savez_compressed(path, x=self.points)
    elif name.endswith(".npz"):
      np.savez(path, x=self.points)
    elif ".csv" in name:
      np.savetxt(path, self.points, delimiter=",", fmt="%.9g")
    else:
      options = tf.io.TFRecordOptions(
          tf.io.TFRecordCompressionType.GZIP if name.endswith(".gz") else
          tf.io.TFRecordCompressionType.NONE)
      with tf.io.TFRecordWriter(path, options) as writer:
        for row in self.points:
          writer.write(tf.train.Example(features=tf.train.Features(feature={
              "x": tf.train.Feature(bytes_list=tf.train.BytesList(
                  value=[row.tobytes()]))})).SerializeToString())
    with open(path, "rb") as source:
      return source.read()

  @parameterized.parameters(
      "p.npy", "p.npz", "z.npz", "p.csv", "p.csv.gz", "p.tfrecord",
      "p.tfrecord.gz")
  def test_x14(self, name):
    content, rng = self.write(name), random.Random(name)
    for i in range(_TRIES):
      damaged = bytearray(content)
      kind = rng.randrange(4)
      place = rng.randrange(len(damaged) if rng.randrange(2) else 128)
      if kind == 0:
        damaged[place] ^= 1 << rng.randrange(8)
      elif kind == 1:
        del damaged[place:]
      elif kind == 2:
        damaged[place:place] = bytes(rng.randrange(256) for _ in range(9))
      else:
        del damaged[place:place + rng.randrange(1, 40)]
      with open(self.path(name), "wb") as output:
        output.write(damaged)
      try:
        gf.stream(self.f, self.path(name), self.path("out.npy"), chunk=5)
      except gf.GradfeedError as error:
        self.assertNotIn("\n", error.what + error.why, (name, i))
      if os.path.exists(self.path("out.npy.state")):
        os.remove(self.path("out.npy.state"))
