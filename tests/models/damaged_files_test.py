"""Damaged models are loaded, or refused with an error of gradfeed."""

import functools
import importlib.util
import os
import random
import shutil
import warnings

from absl.testing import parameterized
import tensorflow.compat.v1 as tf

import gradfeed as gf
from tests.testing import folders
from tests.testing import graphs

_MUTATIONS = 54


@functools.lru_cache()
def _script():
  """The module of scripts/fuzz_models.py, whose mutations are used here."""
  spec = importlib.util.spec_from_file_location(
      "fuzz_models", os.path.join(folders.ROOT, "scripts", "fuzz_models.py"))
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


class DamagedTest(folders.FolderTest, graphs.GraphTest):

  def write(self):
    """A frozen graph in both forms, a checkpoint and a SavedModel."""
    x = tf.placeholder(tf.float64, [None, 3], name="x")
    w = graphs.variable("w", [[0.5], [1.5], [2.5]], True)
    y = tf.tanh(tf.matmul(x, w), name="y")
    self.initialize()
    frozen = tf.graph_util.convert_variables_to_constants(
        self.session, self.graph.as_graph_def(), ["y"])
    for folder, name, as_text in (("a", "m.pb", False), ("b", "m.pbtxt", True)):
      tf.io.write_graph(frozen, self.path("models", folder), name, as_text)
    os.mkdir(self.path("models", "c"))
    tf.train.Saver().save(self.session, self.path("models", "c", "model"))
    builder = tf.saved_model.Builder(self.path("models", "d"))
    builder.add_meta_graph_and_variables(self.session, ["serve"], {
        "f": tf.saved_model.predict_signature_def({"x": x}, {"y": y})})
    builder.save()

  def test_mutations(self):
    fuzz = _script()
    self.write()
    models = fuzz.models_in(self.path("models"), 1 << 20)
    self.assertLen(models, 5)  # Of the checkpoint, its .meta and its folder.
    refused = 0
    for mutation in fuzz.plan(models, _MUTATIONS, 0):
      model = models[mutation[0]]
      path = fuzz.write(model, mutation, self.path("damaged"))
      with self.subTest(model=model, mutation=mutation), (
          warnings.catch_warnings()):
        warnings.simplefilter("ignore")  # Of protobuf.
        outcome, error = fuzz.outcome_of(path, gf)
        self.assertLess(outcome, 3, repr(error))
        if error is not None:
          refused += 1
          self.assertNotIn("\n", error.why)
          self.assertNotRegex(error.why, "Graph execution error|Original error")
      shutil.rmtree(self.path("damaged"))
    self.assertGreater(refused, _MUTATIONS // 3)

  def test_kinds_of_mutation(self):
    fuzz = _script()
    content = bytes(range(1, 200))
    for kind in fuzz.KINDS:
      results = {fuzz.mutate(content, kind, random.Random(seed))
                 for seed in range(20)}
      self.assertGreater(len(results), 5, kind)
      fuzz.mutate(b"", kind, random.Random(0))

  @parameterized.parameters(
      ("m.pb", b"\x0a\x03\x0a\x01\xff"), ("m.pbtxt", b"node { name: \"a"),
      ("m.pbtxt", b"node { name: \xff }"), ("m.meta", b""),
      ("m.meta", b"\xff\xfe"), ("m.meta", b"graph_def {"),
      ("m.h5", b"\x89HDF\r\n\x1a\nrest"),
      ("saved_model.pb", b"\xff\xff"), ("saved_model.pbtxt", b"meta_graphs {"),
      ("checkpoint", b"\xff\xfe\x00model"))
  def test_files(self, name, content):
    with open(self.path(name), "wb") as output:
      output.write(content)
    with open(self.path("m.index"), "wb") as output:
      output.write(content)
    with self.assertRaises(gf.ModelFileError) as caught:
      gf.load(self.path(name))
    self.assertNotIn("\n", caught.exception.why)
