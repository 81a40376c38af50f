"""Tests of the handler for `RunInference`."""

import os
import pickle
import threading

from absl.testing import parameterized
import numpy as np
import tensorflow.compat.v1 as tf

import gradfeed as gf
from tests.beam import local_runs
from tests.shards import networks

beam, base = local_runs.beam, local_runs.base
GradientModelHandler = local_runs.gradfeed.beam.GradientModelHandler
Refused = local_runs.gradfeed.beam.Refused


def example_of(**features):
  """A serialized Example with features of floats."""
  return tf.train.Example(features=tf.train.Features(feature={
      name: tf.train.Feature(float_list=tf.train.FloatList(
          value=np.ravel(value))) for name, value in features.items()
  })).SerializeToString()


class HandlerTest(networks.ShardTest):

  def handler(self, y="y:0", x="x:0", **settings):
    return GradientModelHandler(
        settings.pop("model", self.model), y, x, **settings)

  def infer(self, elements, **settings):
    """The inference at each element, by the handler alone."""
    handler = self.handler(**settings)
    return [result.inference for result in handler.run_inference(
        elements, handler.load_model())]

  def assert_results(self, results, wanted):
    """Compares results to closed forms; NaN is none."""
    self.assertLen(results, len(wanted))
    for result, row in zip(results, wanted):
      self.assertNotIsInstance(result, Refused)
      self.assertTrue(np.isfinite(result).all())
      np.testing.assert_allclose(result, row, rtol=1e-12)


class FormsOfElementsTest(HandlerTest):

  def test_arrays_with_and_without_the_axis_of_the_batch(self):
    points = self.points(6)
    results = self.infer([points[0], points[1][None], list(points[2])] +
                         list(points[3:]))
    self.assertEqual([np.shape(result) for result in results],
                     [(2,), (1, 2)] + 4 * [(2,)])
    self.assert_results([np.reshape(each, 2) for each in results],
                        networks.gradient(points))

  @parameterized.named_parameters(
      ("tuples", lambda x, w: (x, w)),
      ("dicts", lambda x, w: {"x": x, "weight": w, "name": "of no use"}),
      ("examples", lambda x, w: example_of(x=x, weight=w)))
  def test_with_a_weight_for_each(self, make):
    points = self.points(40).astype(np.float32).astype(np.float64)
    weights = np.arange(1.0, 41.0)
    self.assert_results(
        self.infer(list(map(make, points, weights)), y="weighted:0",
                   rows=["weight:0"]),
        networks.gradient(points) * weights[:, None])

  @parameterized.named_parameters(
      ("dicts", lambda x, c: {"pixels": x, "label": c}),
      ("examples", lambda x, c: tf.train.Example(features=tf.train.Features(
          feature={
              "pixels": tf.train.Feature(
                  float_list=tf.train.FloatList(value=x)),
              "label": tf.train.Feature(
                  int64_list=tf.train.Int64List(value=[c]))
          })).SerializeToString()))
  def test_keys_and_a_class_for_each(self, make):
    points = self.points(5).astype(np.float32).astype(np.float64)
    self.assert_results(
        self.infer([make(x, i % 3) for i, x in enumerate(points)],
                   y="scores:0", keys=["pixels"], class_index="label"),
        networks.gradient(points) * np.array([1, 2, 3, 1, 2])[:, None])

  def test_all_kinds_in_one_batch(self):
    points = np.float32(self.points(3)).astype(np.float64)
    self.assert_results(
        self.infer([points[0], {"x": points[1]}, example_of(x=points[2])]),
        networks.gradient(points))

  def test_a_value_with_its_gradient(self):
    result, = self.infer([np.array([1.0, 2.0])], of="value_and_gradient")
    self.assertAlmostEqual(float(result.value), 18.0)
    np.testing.assert_allclose(result.gradient, [6.0, 24.0])

  def test_feeds(self):
    result, = self.infer([np.array([1.0, 2.0])], y="scaled:0",
                         feed_dict={"scale:0": 0.5})
    np.testing.assert_allclose(result, [3.0, 12.0])

  def test_rows_of_several_lengths(self):
    with tf.Graph().as_default() as graph:
      x = tf.placeholder(tf.float64, [None, None], name="x")
      tf.reduce_sum(x ** 3, 1, name="y")
      tf.train.write_graph(graph, self.folder, "long.pb", as_text=False)
    rows = [np.arange(1.0, 2.0 + i % 4) for i in range(12)]
    self.assert_results(self.infer(rows, model=self.path("long.pb")),
                        [3.0 * row ** 2 for row in rows])

  @parameterized.parameters(((1, 2), (1,)), ((2,), ()))
  def test_an_input_that_is_no_batch_of_any_size(self, shape, axes):
    with tf.Graph().as_default() as graph:
      x = tf.placeholder(tf.float64, shape, name="x")
      tf.reduce_sum(x ** 3, axes or None, name="y")
      tf.train.write_graph(graph, self.folder, "one.pb", as_text=False)
    points = self.points(9)
    self.assert_results(
        self.infer(list(points), model=self.path("one.pb")),
        networks.gradient(points, 1.0))


class BadRowsTest(HandlerTest):

  @parameterized.named_parameters(
      ("nan", np.array([1.0, np.nan]), "is not finite"),
      ("infinity", np.array([np.inf, 0.0]), "is not finite"),
      ("long", np.ones(3), r"has the shape \[3\], which is no row of 'x:0'"),
      ("two_rows", np.ones([2, 2]), r"has the shape \[2, 2\]"),
      ("text", "text", r"has the shape \[\]"),
      ("none", None, "is not an array of numbers"),
      ("other_name", {"z": np.ones(2), "w": 1.0}, "has no 'x:0' but 'w', 'z'"),
      ("no_example", b"\xff\x00", "is not a tf.train.Example"),
      ("other_feature", example_of(z=1, w=1), "has no feature 'x:0' but"),
      ("long_example", example_of(x=[1, 2, 3, 4]), r"has the shape \[2, 2\]"))
  def test_is_told_alone_wherever_it_is(self, bad, reason):
    points = np.float32(self.points(5)).astype(np.float64)
    for place in (0, 2, 4):
      for make in (lambda x: x, lambda x: example_of(x=x)):
        elements = list(map(make, points))
        elements[place] = bad
        results = self.infer(elements)
        self.assertRegex(results.pop(place).reason, reason)
        self.assert_results(
            results, np.delete(networks.gradient(points), place, 0))

  def test_a_row_that_cannot_be_evaluated(self):
    with tf.Graph().as_default() as graph:
      x = tf.placeholder(tf.float64, [None, 2], name="x")
      ids = tf.placeholder(tf.int32, [None], name="ids")
      table = tf.constant([1.0, 2.0, 3.0], tf.float64)
      tf.multiply(tf.reduce_sum(x ** 3, 1), tf.gather(table, ids), name="y")
      tf.train.write_graph(graph, self.folder, "ids.pb", as_text=False)
    points = self.points(5)
    results = self.infer(list(zip(points, [0, 1, 7, 2, 0])),
                         model=self.path("ids.pb"), rows=["ids:0"])
    self.assertRegex(results.pop(2).reason, "cannot be .*: .*7 is not in")
    self.assert_results(results, networks.gradient(
        np.delete(points, 2, 0), 1.0) * np.array([1, 2, 3, 1])[:, None])

  def test_a_row_of_another_dtype(self):
    points = self.points(3)
    results = self.infer([points[0], points[1] * 1j, points[2]])
    self.assertIn("cannot be fed", results.pop(1).reason)
    self.assert_results(results, networks.gradient(points[[0, 2]]))

  def test_a_batch_without_a_good_row(self):
    results = self.infer([np.ones(3), np.full(2, np.nan)])
    self.assertEqual([type(result) for result in results], [Refused, Refused])

  def test_compares_and_is_pickled(self):
    refused = Refused("is not finite")
    self.assertEqual(pickle.loads(pickle.dumps(refused)), refused)
    self.assertNotEqual(refused, Refused("other"))
    with self.assertRaises(TypeError):
      _ = list(refused)


class MakingTest(HandlerTest):

  @parameterized.parameters(
      (dict(y="z:0"), gf.TensorNotFoundError, "z:0"),
      (dict(x="z:0"), gf.TensorNotFoundError, "z:0"),
      (dict(y=3), gf.ArgumentError, "y=3"),
      (dict(of="slope"), gf.ArgumentError, "'slope'"),
      (dict(y="scaled:0"), gf.MissingFeedError, "scale:0"),
      (dict(feed_dict={"z:0": 1.0}), gf.FeedError, "z:0"),
      (dict(y="scaled:0", feed_dict={"scale:0": [1.0]}), gf.FeedError, "scale"),
      (dict(rows=["z:0"]), gf.TensorNotFoundError, "z:0"),
      (dict(keys=["a", "b"]), gf.ArgumentError, "keys"),
      (dict(y="scores:0", class_index=3), gf.ArgumentError, "class_index=3"),
      (dict(model="none.pb"), gf.ModelFileError, "none.pb"),
      (dict(max_batch_size=0), gf.ArgumentError, "max_batch_size=0"),
      (dict(min_batch_size=True), gf.ArgumentError, "min_batch_size"),
      (dict(threads=0), gf.ArgumentError, "threads=0"))
  def test_refuses_what_no_worker_could_do(self, settings, error, text):
    with self.assertRaisesRegex(error, text):
      self.handler(**settings)

  @parameterized.parameters(1, 256)
  def test_refuses_rows_that_depend_on_each_other(self, size):
    model = self.write_model("coupled.pb", coupled=True)
    with self.assertRaisesRegex(gf.CoupledRowsError, "'Mean'|'sub'") as raised:
      self.handler(model=model, max_batch_size=size)
    self.assertNotIn("coupled=True: each row", str(raised.exception))

  def test_refuses_results_without_rows(self):
    with tf.Graph().as_default() as graph:
      x = tf.placeholder(tf.float64, [None, 2], name="x")
      tf.reduce_mean(x ** 3, name="y")
      tf.train.write_graph(graph, self.folder, "mean.pb", as_text=False)
    model = self.path("mean.pb")
    with self.assertRaisesRegex(gf.ArgumentError, "'y:0'.* has no rows"):
      self.handler(model=model, of="value")
    with self.assertRaises(gf.CoupledRowsError):  # The mean has 1 / B in it.
      self.handler(model=model)

  def test_takes_rows_whose_independence_is_tried(self):
    with tf.Graph().as_default() as graph:
      x = tf.placeholder(tf.float64, [None, 2], name="x")
      order = tf.range(tf.shape(x)[0])
      tf.reduce_sum(tf.gather(x, order) ** 3, 1, name="y")
      tf.train.write_graph(graph, self.folder, "order.pb", as_text=False)
    points = self.points(4)
    self.assert_results(
        self.infer(list(points), model=self.path("order.pb")),
        networks.gradient(points, 1.0))

  def test_the_ops_show_that_rows_of_a_network_are_independent(self):
    with tf.Graph().as_default() as graph:
      x = tf.placeholder(tf.float64, [None, 2], name="x")
      tf.tanh(tf.matmul(x, tf.constant([[1.0], [2.0]], tf.float64)), name="y")
      tf.train.write_graph(graph, self.folder, "dense.pb", as_text=False)
    model = self.handler(model=self.path("dense.pb")).load_model()
    self.assertTrue(model.is_independent)

  def test_is_small_and_takes_no_weights_along(self):
    with tf.Graph().as_default() as graph:
      x = tf.placeholder(tf.float64, [None, 2], name="x")
      weights = tf.constant(np.random.RandomState(0).normal(size=[2, 9999]))
      tf.reduce_sum(tf.matmul(x, weights), 1, name="y")
      tf.train.write_graph(graph, self.folder, "large.pb", as_text=False)
    handler = self.handler(model=self.path("large.pb"))
    self.assertLess(len(pickle.dumps(handler)), 1500)
    handler = pickle.loads(pickle.dumps(handler))
    self.assertEqual(handler.batch_elements_kwargs(),
                     {"min_batch_size": 256, "max_batch_size": 256})
    self.assertEqual(handler.get_num_bytes(
        [np.ones(2), (np.ones(2), 1.0), {"x": np.ones(2)}, b"1234"]), 60)

  def test_arguments_of_a_call_are_refused(self):
    with self.assertRaisesRegex(gf.ArgumentError, "inference_args"):
      self.handler().validate_inference_args({"a": 1})


class ModelTest(HandlerTest):

  def test_another_model_at_the_path_is_refused(self):
    handler = self.handler()
    self.write_model("m.pb", factor=3.0)
    with self.assertRaisesRegex(BaseException, "is another model here") as (
        raised):
      handler.load_model()
    self.assertNotIsInstance(raised.exception, Exception)

  def test_tells_which_model_it_was(self):
    handler = self.handler()
    result, = handler.run_inference([np.ones(2)], handler.load_model())
    path, _, fingerprint = result.model_id.partition("@")
    self.assertEqual(path, self.model)
    self.assertRegex(fingerprint, "^[0-9a-f]{16}$")
    other = self.handler(model=self.write_model("other.pb", factor=3.0))
    result, = other.run_inference([np.ones(2)], other.load_model())
    self.assertNotIn(fingerprint, result.model_id)

  def test_takes_another_path_where_it_is_told_one(self):
    handler = self.handler()
    handler.update_model_path(None)
    handler.update_model_path(self.model)
    other = self.write_model("other.pb", factor=3.0)
    handler.update_model_path(other)
    result, = handler.run_inference([np.ones(2)], handler.load_model())
    np.testing.assert_allclose(result.inference, [9.0, 9.0])
    self.assertTrue(result.model_id.startswith(other))
    handler.update_model_path(self.write_model("bad.pb", coupled=True))
    with self.assertRaisesRegex(BaseException, "depends on other rows"):
      handler.load_model()

  def test_many_threads(self):
    with tf.Graph().as_default() as graph:
      x = tf.placeholder(tf.float64, [1, 2], name="x")
      tf.reduce_sum(x ** 3, name="y")
      tf.train.write_graph(graph, self.folder, "one.pb", as_text=False)
    points = self.points(64)
    for name in ("m.pb", "one.pb"):
      handler = self.handler(model=self.path(name))
      model, found = handler.load_model(), {}

      def work(i):
        found[i] = handler.run_inference(list(points[i::8]), model)

      threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
      for thread in threads:
        thread.start()
      for thread in threads:
        thread.join()
      for i in range(8):
        self.assert_results(
            [result.inference for result in found[i]], networks.gradient(
                points[i::8], 2.0 if name == "m.pb" else 1.0))

  def test_memory_of_shapes_is_bounded(self):
    with tf.Graph().as_default() as graph:
      x = tf.placeholder(tf.float64, [None, None], name="x")
      tf.reduce_sum(x ** 3, 1, name="y")
      tf.train.write_graph(graph, self.folder, "long.pb", as_text=False)
    handler = self.handler(model=self.path("long.pb"))
    model = handler.load_model()
    counts = []
    for start in (1, 75, 150):
      for length in range(start, start + 75):
        handler.run_inference([np.ones(length)], model)
      counts.append(len(model._f.graph.get_operations()))
    self.assertEqual(counts[1], counts[2])
    self.assertLessEqual(len(model._evaluators), 64)

  def test_session_has_the_threads_that_were_asked_for(self):
    for threads in (1, 3):
      model = self.handler(threads=threads).load_model()
      config = model._f._session._config
      self.assertEqual((config.intra_op_parallelism_threads,
                        config.inter_op_parallelism_threads),
                       (threads, threads))


class PipelineTest(HandlerTest):

  def test_in_run_inference(self):
    points = self.points(20)
    (results,), metrics = local_runs.run(
        list(points), base.RunInference(self.handler(max_batch_size=8)))
    self.assertLen(results, 20)
    for result in results:
      np.testing.assert_allclose(
          result.inference, networks.gradient(result.example), rtol=1e-12)
    self.assertEqual(metrics["rows"], 20)
    self.assertEqual(metrics["refused_rows"], 0)
    self.assertEqual(metrics["model_load_milli_secs"].count, 1)
    self.assertGreaterEqual(metrics["tensorflow_micro_secs"].count, 3)
    self.assertGreater(metrics["tensorflow_micro_secs"].sum, 0)

  @parameterized.parameters(1, 256)
  def test_rows_are_never_put_aside_for_what_is_not_their_fault(self, size):
    with tf.Graph().as_default() as graph:
      x = tf.placeholder(tf.string, [None], name="x")
      value = tf.string_to_number(x)
      first = tf.gather(value, tf.cast(tf.zeros_like(value), tf.int32))
      tf.subtract(value, first, name="y")
      tf.train.write_graph(graph, self.folder, "text.pb", as_text=False)
    handler = GradientModelHandler(  # No rows can be made up for it.
        self.path("text.pb"), "y:0", "x:0", of="value", max_batch_size=size)
    with self.assertRaisesRegex(Exception, "depends on other rows"):
      local_runs.run([str(i) for i in range(10)], _set_aside(handler))

  def test_another_model_fails_the_pipeline(self):
    handler = self.handler()
    self.write_model("m.pb", factor=3.0)
    with self.assertRaisesRegex(Exception, "is another model here"):
      local_runs.run(list(self.points(3)), _set_aside(handler))

  def test_variables_of_the_environment(self):
    self.addCleanup(os.environ.pop, "GRADFEED_OF_A_TEST", None)
    local_runs.run([np.ones(2)], base.RunInference(
        self.handler(env_vars={"GRADFEED_OF_A_TEST": "1"})))
    self.assertEqual(os.environ.get("GRADFEED_OF_A_TEST"), "1")


def _set_aside(handler):
  """Applies a handler, and sets bad batches aside as Beam does."""
  def apply(elements):
    results, refused = elements | base.RunInference(
        handler).with_exception_handling()
    return results, refused.failed_inferences

  return apply
