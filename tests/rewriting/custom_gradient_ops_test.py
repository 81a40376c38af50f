"""Gradients whose names count: right where they were made, refused elsewhere.
"""

import itertools

from absl.testing import parameterized
import numpy as np
import tensorflow
import tensorflow.compat.v1 as tf

import gradfeed as gf
from tests.testing import folders
from tests.testing import graphs
from tests.testing import saved_models

_ATTRIBUTE = "_gradient_op_type"


@tf.custom_gradient
def _hundredfold(a):
  return tf.sin(a), lambda g: g * 100.0


@tf.custom_gradient
def _minus_seven(a):
  return a * 1.0, lambda g: g * -7.0


def _while(op, x):
  return tf.while_loop(lambda i, a: i < 2, lambda i, a: (i + 1, op(a)),
                       [0, x])[1]


def _called(op, x):
  return tf.function(op, autograph=False)(x)


#: Where the op with a gradient of its own is, and how often.
_PLACES = (
    ("plain", lambda op, x: op(x), 1),
    ("while", _while, 2),
    ("cond", lambda op, x: tf.cond(x > 0.0, lambda: op(x), lambda: x), 1),
    ("call", _called, 1),
    ("call_in_call", lambda op, x: _called(lambda a: _called(op, a), x), 1))

#: The same, with what has a derivative only where it was read from a file.
_IN_FILES = _PLACES + (
    ("call_in_while", lambda op, x: _while(lambda a: _called(op, a), x), 2),)


def _model(build):
  """Makes y of x; and z, in which there is the same beside x."""
  x = tf.placeholder(tf.float64, [], name="x")
  tf.identity(build(_hundredfold, x), name="y")
  one = tf.placeholder_with_default(np.float64(1.0), [], name="one")
  tf.multiply(x, build(_hundredfold, one), name="z")


def _nodes(graph_def):
  for nodes in [graph_def.node] + [
      function.node_def for function in graph_def.library.function]:
    for node in nodes:
      if _ATTRIBUTE in node.attr:
        yield node


def _from_elsewhere(build, model=_model):
  """GraphDef of a model from a process that counted as this one did.

  The names of its gradients are those of `_minus_seven` here.
  """
  with tf.Graph().as_default() as graph:
    model(build)
  graph_def = graph.as_graph_def()
  name = _taken()
  for node in _nodes(graph_def):
    if node.op == "IdentityN":
      node.attr[_ATTRIBUTE].s = name
  return graph_def


def _taken():
  """The name of a gradient that is registered in this process."""
  with tf.Graph().as_default() as graph:
    _minus_seven(tf.placeholder(tf.float64, [], name="taken"))
    return next(_nodes(graph.as_graph_def())).attr[_ATTRIBUTE].s


def _turns(function, times, at):
  for _ in range(times):
    at = function(at)
  return at


class _UnknownTest(folders.FolderTest, graphs.GraphTest):

  def refused(self, name="IdentityN"):
    return self.assertRaisesRegex(
        gf.UnsupportedGraphError,
        r"(?s)'[^']*{}[^']*' is not known.*no file holds.*"
        r"custom_gradients=".format(name))

  def check_refused(self, times, session):
    """The values are right, z has a derivative, and y is refused."""
    x, y, z = (session.graph.get_tensor_by_name(name + ":0")
               for name in "xyz")
    expected = _turns(np.sin, times, 1.0)
    f = gf.function(x, [y, gf.gradient(z, x)], session)
    np.testing.assert_allclose(f(1.0), [expected, expected])
    for differentiate in (gf.gradient, gf.hessian, gf.jacobian):
      with self.refused():
        differentiate(y, x)
    np.testing.assert_allclose(gf.run(session, y, {x: 1.0}), expected)


class ImportedByHandTest(_UnknownTest):

  def test_s10_tensorflow_takes_the_gradient_of_another_function(self):
    tf.import_graph_def(_from_elsewhere(lambda op, x: op(x)), name="")
    dx, = tf.gradients(self.graph.get_tensor_by_name("y:0"),
                       self.graph.get_tensor_by_name("x:0"))
    self.assertEqual(self.session.run(dx, {"x:0": 1.0}), -7.0)

  @parameterized.named_parameters(*_PLACES)
  def test_s10_is_refused(self, build, times):
    tf.import_graph_def(_from_elsewhere(build), name="")
    self.check_refused(times, self.session)

  @parameterized.named_parameters(*_PLACES)
  def test_s10_is_refused_beside_the_function_of_that_name(self, build, times):
    graph_def = _from_elsewhere(build)
    with tf.Graph().as_default() as graph, tf.Session() as session:
      x = tf.placeholder(tf.float64, [], name="own")
      with tf.name_scope("own"):  # Loops of one name cannot run together.
        y = build(_minus_seven, x)
      name, = {node.attr[_ATTRIBUTE].s for node in _nodes(graph.as_graph_def())
               if node.op == "IdentityN"}
      for node in _nodes(graph_def):
        if node.op == "IdentityN":
          node.attr[_ATTRIBUTE].s = name
      tf.import_graph_def(graph_def, name="")
      self.check_refused(times, session)
      dx = gf.gradient(y, x)
      self.assertEqual(session.run(dx, {x: 1.0}), (-7.0) ** times)

  def test_s10_a_copy_is_refused_as_well(self):
    def model(op):
      looped = _while(tf.sin, tf.placeholder(tf.float64, [], name="x"))
      held = tf.identity(op(looped), name="held")
      tf.multiply(looped, held, name="y")

    tf.import_graph_def(_from_elsewhere(_hundredfold, model), name="")
    held = self.graph.get_tensor_by_name("held:0")
    dx = gf.gradient("y:0", "x:0", stop_gradients=[held])
    np.testing.assert_allclose(
        gf.run(self.session, dx, {"x:0": 3.0}),
        np.cos(np.sin(3.0)) * np.cos(3.0) * _turns(np.sin, 3, 3.0))
    with self.refused():
      gf.gradient(dx, "x:0")

  def test_s10_no_function_of_that_name(self):
    graph_def = _from_elsewhere(lambda op, x: op(x))
    for node in _nodes(graph_def):
      node.attr[_ATTRIBUTE].s = b"CustomGradient-987654321"
    tf.import_graph_def(graph_def, name="")
    with self.refused():
      gf.gradient("y:0", "x:0")

  def test_s10_a_model_of_tf2_loaded_as_tf2_does(self):
    """TF 2 restores the gradient; TF 1 takes one that has the same name."""
    saved_models.save(self.path("tf2"), "custom_gradient")
    model = tensorflow.compat.v2.saved_model.load(self.path("tf2"))
    for function in self.graph._functions.values():
      for op in function.graph.get_operations():
        self.take_name(op)
    x = tf.placeholder(tf.float64, [None, 3])
    y = model.signatures["serving_default"](x=x)["y"]
    if tf.__version__.startswith("1."):
      with self.refused():
        gf.gradient(y, x)
    else:
      f = gf.function(x, gf.gradient(y, x), self.session)
      np.testing.assert_allclose(f([[1.0] * 3]), [[100.0] * 3])

  def take_name(self, op):
    """Registers a gradient under the name that an op counts on."""
    if op.type == "IdentityN":
      name = op.get_attr(_ATTRIBUTE).decode()
      try:
        tf.RegisterGradient(name)(lambda op, *g: [-7.0 * g[0], None])
      except KeyError:
        pass  # There is one.

  def test_names_that_do_not_count_are_the_callers(self):
    if not hasattr(ImportedByHandTest, "registered"):
      ImportedByHandTest.registered = True
      tf.RegisterGradient("OfTheCaller")(lambda op, *g: [3.0 * g[0], None])
    graph_def = _from_elsewhere(lambda op, x: op(x))
    for node in _nodes(graph_def):
      node.attr[_ATTRIBUTE].s = b"OfTheCaller"
    tf.import_graph_def(graph_def, name="")
    f = gf.function("x:0", gf.gradient("y:0", "x:0"), self.session)
    np.testing.assert_allclose(f(1.0), 3.0 * np.cos(1.0))

  def test_s10_forward_values_stay(self):
    """A call's own gradient of TF 1 rewrites the call as it is built."""
    with tf.Graph().as_default() as graph:
      x = tf.placeholder(tf.float64, [], name="x")
      tf.identity(_called(lambda a: a * a, x), name="y")
      other = tf.placeholder(tf.float64, [], name="other")
      _called(lambda a: a * -7.0, other)
      graph_def = graph.as_graph_def()
    calls = [node for node in graph_def.node if "PartitionedCall" in node.op]
    self.assertLen(calls, 2)
    if _ATTRIBUTE in calls[1].attr:  # TF 1.
      calls[0].attr[_ATTRIBUTE].s = calls[1].attr[_ATTRIBUTE].s
    tf.import_graph_def(graph_def, name="")
    f = gf.function("x:0", ["y:0", gf.gradient("y:0", "x:0")], self.session)
    np.testing.assert_allclose(f(3.0), [9.0, 6.0])


class MadeHereTest(graphs.GraphTest):
  """What tf.custom_gradient made in this process is taken as ever."""

  @parameterized.named_parameters(*_PLACES)
  def test_in_its_graph(self, build, times):
    x = tf.placeholder(tf.float64, [])
    dx = gf.gradient(build(_hundredfold, x), x)
    self.assertEqual(self.session.run(dx, {x: 1.0}), 100.0 ** times)

  @parameterized.named_parameters(*_PLACES)
  def test_in_a_function_of_autograph_and_a_copy(self, build, times):
    x = tf.placeholder(tf.float64, [])
    y = tf.function(lambda a: build(_hundredfold, a))(x)
    h = tf.sin(x)
    z = gf.gradient(tf.while_loop(
        lambda i, a: i < 1, lambda i, a: (i + 1, a * _hundredfold(h)),
        [0, x])[1], h)
    f = gf.function([x, h], [gf.gradient(y, x), z], self.session)
    np.testing.assert_allclose(f(1.0, 0.5), [100.0 ** times, 100.0])

  @parameterized.named_parameters(
      ("cotangent_alone", _hundredfold, 100.0),
      ("more", tf.custom_gradient(
          lambda a: (a ** 3, lambda g: g * 5.0 * a)), 10.0))
  def test_in_a_snapshot(self, op, expected):
    x = tf.placeholder(tf.float64, [], name="x")
    tf.identity(op(x), name="y")
    with gf.snapshot(self.session) as clone:
      with clone.graph.as_default():
        dx = gf.gradient("y:0", "x:0")
      self.assertEqual(gf.run(clone.session, dx, {"x:0": 2.0}), expected)

  @parameterized.named_parameters(*_PLACES)
  def test_s10_a_snapshot_of_what_was_imported(self, build, times):
    tf.import_graph_def(_from_elsewhere(build), name="")
    with gf.snapshot(self.session) as clone, clone.graph.as_default():
      with self.assertRaisesRegex(gf.UnsupportedGraphError, "not known"):
        gf.gradient("y:0", "x:0")


class LoadTest(_UnknownTest):

  def write(self, build, kind="frozen"):
    """Writes a model from elsewhere; returns its path and a counting name."""
    graph_def = _from_elsewhere(build)
    counter = next(node.attr[_ATTRIBUTE].s.decode()
                   for node in _nodes(graph_def) if node.op == "IdentityN")
    if kind == "frozen":
      return tf.train.write_graph(
          graph_def, self.folder, "m.pb", as_text=False), counter
    with tf.Graph().as_default() as graph, tf.Session() as session:
      tf.import_graph_def(graph_def, name="")
      x, y = (graph.get_tensor_by_name(name + ":0") for name in "xy")
      v = tf.get_variable("v", initializer=1.0)
      session.run(v.initializer)
      if kind == "checkpoint":
        tf.train.Saver().save(session, self.path("model"))
        return self.path("model"), counter
      tf.saved_model.simple_save(session, self.path("saved"), {"x": x},
                                 {"y": y})
      return self.path("saved"), counter

  @parameterized.named_parameters(*_IN_FILES)
  def test_s10_is_refused(self, build, times):
    path, _ = self.write(build)
    with gf.load(path) as model:
      self.check_refused(times, model.session)

  @parameterized.parameters(*itertools.product(
      ("checkpoint", "SavedModel"), range(len(_IN_FILES))))
  def test_s10_is_refused_in_other_files(self, kind, place):
    _, build, times = _IN_FILES[place]
    path, _ = self.write(build, kind)
    with gf.load(path) as model:
      self.assertEqual(model.kind, kind)
      self.check_refused(times, model.session)

  @parameterized.named_parameters(*_IN_FILES)
  def test_with_the_function_given(self, build, times):
    path, counter = self.write(build)

    def fivefold(op, *grads):
      self.assertLen(op.inputs, len(grads))
      return [None, grads[0] * 5.0 * op.inputs[1]]

    given = {counter: fivefold}
    with gf.load(path, custom_gradients=given) as model:
      f = gf.function("x:0", gf.gradient("y:0", "x:0"))
      expected = _turns(lambda b: b * 5.0, times, 1.0) * np.prod(
          [_turns(np.sin, i, 0.7) for i in range(times)])
      np.testing.assert_allclose(f(0.7), expected)
      self.assertEqual(model.graph.get_operations()[0].name, "x")
    self.assertEqual(given, {counter: fivefold})

  @parameterized.named_parameters(*_IN_FILES)
  def test_with_what_is_computed(self, build, times):
    path, counter = self.write(build)
    for key in (counter, "CustomGradient-*"):
      with gf.load(path, custom_gradients={key: None}):
        f = gf.function("x:0", gf.gradient("y:0", "x:0"))
        np.testing.assert_allclose(f(0.7), np.prod(
            [np.cos(_turns(np.sin, i, 0.7)) for i in range(times)]))

  def test_by_the_name_of_an_op(self):
    path, _ = self.write(lambda op, x: op(x))
    with gf.load(path, custom_gradients={"IdentityN": None}):
      f = gf.function("x:0", gf.gradient("y:0", "x:0"))
      np.testing.assert_allclose(f(0.7), np.cos(0.7))

  @parameterized.named_parameters(
      ("lost", {"nothing": None}, "'nothing'.*'IdentityN' .CustomGradient-"),
      ("no_function", {"IdentityN": 3.0}, "cannot be used"),
      ("no_dict", [1], "cannot be used"))
  def test_refuses_what_cannot_be_meant(self, given, message):
    path, _ = self.write(lambda op, x: op(x))
    with self.assertRaisesRegex(gf.ArgumentError, "(?s)" + message):
      gf.load(path, custom_gradients=given)

  def test_written_again_it_is_still_refused(self):
    path, counter = self.write(lambda op, x: op(x))
    with gf.load(path) as model:
      again = tf.train.write_graph(
          model.graph, self.folder, "again.pb", as_text=False)
    with gf.load(again):
      with self.refused():
        gf.gradient("y:0", "x:0")
    with gf.load(again, custom_gradients={counter: None}):
      gf.gradient("y:0", "x:0")

  def test_calls_lose_their_counting_names(self):
    with tf.Graph().as_default() as graph:
      x = tf.placeholder(tf.float64, [], name="x")
      tf.identity(_called(lambda a: a * a, x), name="y")
      path = tf.train.write_graph(graph, self.folder, "m.pb", as_text=False)
    with gf.load(path) as model:
      self.assertEmpty(list(_nodes(model.graph.as_graph_def())))
      f = gf.function("x:0", ["y:0", gf.gradient("y:0", "x:0")])
      np.testing.assert_allclose(f(3.0), [9.0, 6.0])

  def test_saved_model_of_tf2(self):
    saved_models.save(self.path("tf2"), "custom_gradient")
    with gf.load(self.path("tf2")) as model:
      x, y = (model.tensor("serving_default/" + key) for key in ("x", "y"))
      np.testing.assert_allclose(gf.run(model.session, y, {x: [[1.0] * 3]}),
                                 np.sin([[1.0] * 3]))
      with self.refused():
        gf.gradient(y, x)
