"""Tests of the digests of models, by `Model.fingerprint`."""

import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from tests.testing import folders
from tests.testing import graphs
from tests.testing import processes


class FingerprintTest(folders.FolderTest, graphs.GraphTest):

  def write(self, name, factor=2.0, y_name="y"):
    """Writes a frozen graph with y = factor * sin(x) and z = x."""
    with tf.Graph().as_default() as graph:
      x = tf.placeholder(tf.float64, [None, 2], name="x")
      tf.multiply(tf.sin(x), factor, name=y_name)
      tf.identity(x, name="z")
      tf.train.write_graph(graph, self.folder, name, as_text=False)
    return self.path(name)

  def fingerprint(self, path, tensors="y:0"):
    with gf.load(path) as model:
      return model.fingerprint(tensors)

  def test_is_the_same_for_a_model_that_is_loaded_twice(self):
    path = self.write("m.pb")
    self.assertEqual(self.fingerprint(path), self.fingerprint(path))
    self.assertEqual(self.fingerprint(path),
                     self.fingerprint(self.write("other_name.pb")))
    self.assertLen(self.fingerprint(path), 64)

  def test_is_another_for_another_constant(self):
    path = self.write("m.pb")
    other = self.write("n.pb", 2.000001)
    self.assertNotEqual(self.fingerprint(path), self.fingerprint(other))
    self.assertEqual(self.fingerprint(path, "z:0"),
                     self.fingerprint(other, "z:0"))

  def test_of_a_gradient_is_that_of_what_it_is_computed_from(self):
    with gf.load(self.write("m.pb")) as model:
      gradient = gf.gradient("y:0", "x:0")
      self.assertEqual(model.fingerprint([gradient, "y:0"]),
                       model.fingerprint("y:0"))

  def test_tells_the_values_of_variables(self):
    for use_resource in (False, True):
      found = []
      for name, value in (("a", [1.0, 2.0]), ("b", [1.0, 2.0]),
                          ("c", [1.0, 2.5])):
        with tf.Graph().as_default(), tf.Session() as session:
          x = tf.placeholder(tf.float64, [None, 2], name="x")
          w = graphs.variable("w", value, use_resource)
          tf.multiply(x, w, name="y")
          session.run(tf.global_variables_initializer())
          path = self.path("{}{}".format(name, use_resource))
          tf.train.Saver().save(session, path)
        found.append(self.fingerprint(path))
      self.assertEqual(found[0], found[1])
      self.assertNotEqual(found[0], found[2])

  def test_tells_strings_of_variables(self):
    found = []
    for i, value in enumerate([[b"ab", b"c"], [b"ab", b"c"], [b"a", b"bc"]]):
      with tf.Graph().as_default(), tf.Session() as session:
        w = tf.get_variable("w", initializer=tf.constant(value))
        tf.identity(w, name="y")
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, self.path(str(i)))
      found.append(self.fingerprint(self.path(str(i))))
    self.assertEqual(found[0], found[1])
    self.assertNotEqual(found[0], found[2])

  def test_looks_into_functions(self):
    found = []
    for name, factor in (("a", 2.0), ("b", 2.0), ("c", 3.0)):
      with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float64, [], name="x")

        @tf.function
        def scaled(value, factor=factor):
          return tf.sin(value) * factor

        tf.identity(scaled(x), name="y")
        tf.train.write_graph(graph, self.folder, name, as_text=False)
      found.append(self.fingerprint(self.path(name)))
    self.assertEqual(found[0], found[1])
    self.assertNotEqual(found[0], found[2])

  def test_is_the_same_in_another_process(self):
    path = self.write("m.pb")
    done = processes.run([
        "-c", "import gradfeed as gf\nwith gf.load({!r}) as model:\n"
        "  print(model.fingerprint('y:0'))".format(path)])
    self.assertEqual(done.stdout.strip(), self.fingerprint(path))

  def test_refuses_what_is_not_there(self):
    with gf.load(self.write("m.pb")) as model:
      with self.assertRaisesRegex(gf.TensorNotFoundError, "nothing:0"):
        model.fingerprint("nothing:0")


class ConfigTest(folders.FolderTest, graphs.GraphTest):

  def test_is_that_of_the_session(self):
    x = tf.placeholder(tf.float64, [3], name="x")
    tf.square(x, name="y")
    path = tf.train.write_graph(self.graph, self.folder, "m.pb", as_text=False)
    config = tf.ConfigProto(inter_op_parallelism_threads=1,
                            use_per_session_threads=True)
    with gf.load(path, config=config) as model:
      self.assertEqual(model.session._config, config)  # pylint: disable=protected-access
      f = gf.function("x:0", gf.gradient("y:0", "x:0"))
      np.testing.assert_array_equal(f([1.0, 2.0, 3.0]), [2.0, 4.0, 6.0])

  def test_refuses_what_is_none(self):
    with self.assertRaisesRegex(gf.ArgumentError, "config=1 .*ConfigProto"):
      gf.load("m.pb", config=1)
