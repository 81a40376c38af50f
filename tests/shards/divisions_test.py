"""Tests of how files are divided into shards."""

import os
import types

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed.shards import divisions
from tests.testing import folders

_LEAF = types.SimpleNamespace(
    name="x:0", dtype=tf.float64, shape=tf.TensorShape([None, 2]))


class DivisionTest(folders.FolderTest):

  def save_all(self, sizes):
    for i, size in enumerate(sizes):
      self.save("p-{}.npy".format(i), np.zeros([size, 2]))
    return self.path("p-*.npy")

  def parts(self, division):
    """(names of files, first row, row after the last, start) of each shard."""
    found = []
    for i in range(division.shards):
      (part,), start = division.parts(i, [_LEAF], [None])
      found.append((tuple(path[-5:-4] for path in part.paths), part.start,
                    part.stop, start))
    return found

  @parameterized.parameters(
      ([4, 6], 2, [("0", None, None, 0), ("1", None, None, 4)]),
      ([4, 6], 1, [("01", None, None, 0)]),
      ([4, 6], 5, [("0", 0, 2, 0), ("0", 2, 4, 2), ("1", 0, 2, 4),
                   ("1", 2, 4, 6), ("1", 4, 6, 8)]),
      ([4, 6], 3, [("0", 0, 3, 0), ("01", 3, 6, 3), ("1", 2, 6, 6)]),
      ([2, 0, 2], 2, [("0", None, None, 0), ("2", None, None, 2)]),
      ([2, 0, 2], 3, [("0", None, None, 0), ("1", None, None, 2),
                      ("2", None, None, 2)]))
  def test_rows(self, sizes, shards, expected):
    division = divisions.Division([self.save_all(sizes)], shards)
    self.assertEqual(self.parts(division), [
        (tuple(each[0]),) + tuple(each[1:]) for each in expected])

  def test_every_row_is_in_one_shard(self):
    draw = np.random.RandomState(0)
    for _ in range(5):
      sizes = list(draw.randint(0, 9, size=draw.randint(1, 6))) + [3]
      pattern = self.save_all(sizes)
      for shards in range(1, sum(sizes) + 1):
        division = divisions.Division([pattern], shards)
        rows = []
        for i in range(shards):
          (part,), _ = division.parts(i, [_LEAF], [None])
          places = [int(path[-5:-4]) for path in part.paths]
          of_files = [(place, row) for place in places
                      for row in range(sizes[place])]
          rows.extend(of_files[part.start:part.stop])
        self.assertEqual(rows, [(place, row) for place, size in enumerate(sizes)
                                for row in range(size)])
      for i in range(len(sizes)):
        os.remove(self.path("p-{}.npy".format(i)))

  def test_another_input_in_one_file_follows_the_files_of_the_first(self):
    pattern = self.save_all([4, 6])
    other = self.save("w.npy", np.zeros([10, 2]))
    division = divisions.Division([pattern, other])
    self.assertEqual(division.shards, 2)
    (first, second), start = division.parts(1, [_LEAF, _LEAF], [None, None])
    self.assertEqual((first.start, first.stop, second.start, second.stop,
                      start), (None, None, 4, 10, 4))

  def test_files_that_do_not_tell_their_rows(self):
    for i in range(5):
      with open(self.path("p-{}.csv".format(i)), "w") as output:
        output.write("1,2\n")
    division = divisions.Division([self.path("p-*.csv")], 2)
    self.assertEqual([part[0] for part in self.parts(division)],
                     [("0", "1"), ("2", "3", "4")])
    division = divisions.Division([self.path("p-*.csv")], 6)
    with self.assertRaisesRegex(gf.ArgumentError, "6 shards of 5 files"):
      division.parts(0, [_LEAF], [None])
