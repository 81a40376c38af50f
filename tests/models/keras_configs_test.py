"""Tests that nothing in a file of Keras is run, wherever it is planted."""

import base64
import copy
import json
import marshal
import os
from unittest import mock

from absl.testing import parameterized
import h5py
import numpy as np

import gradfeed as gf
from gradfeed.models import keras_configs
from gradfeed.models import keras_files
from tests.testing import folders
from tests.testing import graphs

_HARMLESS = {"class_name": "Dense", "config": {
    "name": "top", "units": 2, "activation": "relu", "dtype": "float32",
    "batch_input_shape": [None, 3],
    "kernel_initializer": {
        "module": "keras.initializers", "class_name": "GlorotUniform",
        "config": {"seed": None}, "registered_name": None},
    "kernel_regularizer": {"class_name": "L1L2", "config": {"l2": 0.1}},
    "bias_constraint": "non_neg"}}

#: Functions of modules, as Keras names them.
_SYSTEM = {"module": "os", "class_name": "function", "config": "system",
           "registered_name": "system"}
_BUILTIN = {"module": "builtins", "class_name": "function", "config": "eval",
            "registered_name": "eval"}


def _bytecode(path):
  """Code that makes a file, as a Lambda layer holds it."""
  code = compile("lambda *a, **k: open({!r}, 'w').close()".format(path), "",
                 "eval").co_consts[0]
  return [base64.b64encode(marshal.dumps(code)).decode(), None, None]


def _lambda(**config):
  return {"class_name": "Lambda", "config": dict(config, name="code")}


def _dense(**config):
  layer = copy.deepcopy(_HARMLESS)
  layer["config"].update(config)
  return layer


def _op(**node):
  return {"class_name": "TensorFlowOpLayer", "config": {
      "name": "top", "node_def": dict({"name": "o", "attr": {}}, **node)}}


def _planted(path):
  """dict from a name to a layer with code in it, which would make a file."""
  code = _bytecode(path)
  new = {"class_name": "__lambda__", "config": {"value": code}}
  return {
      "function": _lambda(function=code, function_type="lambda"),
      "mask": _lambda(function="relu", function_type="function", mask=code,
                      mask_type="lambda"),
      "output_shape": _lambda(
          function="relu", function_type="function", output_shape=code,
          output_shape_type="lambda"),
      "function_of_a_module": _lambda(
          function="system", function_type="function", module="os"),
      "new_form": _lambda(function=new),
      "inside_of_a_layer": {"class_name": "TimeDistributed", "config": {
          "name": "wrap", "layer": _lambda(
              function=code, function_type="lambda")}},
      "inside_of_a_model": {"class_name": "Sequential", "config": {
          "name": "inner", "layers": [_lambda(
              function=code, function_type="lambda")]}},
      "tf_op": {"class_name": "TFOpLambda", "config": {
          "name": "code", "function": "io.write_file"}},
      "slicing": {"class_name": "SlicingOpLambda", "config": {
          "name": "code", "function": "__operators__.getitem"}},
      "method": {"class_name": "ClassMethod", "config": {
          "name": "code", "cls_ref": "x", "method_name": "y"}},
      "activation_of_a_module": _dense(activation=_SYSTEM),
      "activation_by_path": _dense(activation="os.system"),
      "activation_of_the_module_of_activations": _dense(activation="get"),
      "builtin": _dense(activation=_BUILTIN),
      "code_as_activation": _dense(activation=new),
      "initializer": _dense(kernel_initializer=_SYSTEM),
      "initializer_by_name": _dense(kernel_initializer="open"),
      "regularizer": _dense(activity_regularizer=_SYSTEM),
      "constraint": _dense(kernel_constraint=dict(
          _SYSTEM, class_name="MaxNorm")),
      "module_of_a_layer": dict(_HARMLESS, module="subprocess"),
      "module_like_that_of_keras": dict(_HARMLESS, module="keras_of_mine"),
      "function_of_keras": dict(
          _HARMLESS, module="keras.utils", class_name="get_file"),
      "registered": dict(_HARMLESS, registered_name="Custom>Mine"),
      "class_of_another": {"class_name": "Popen", "module": "subprocess",
                           "config": {"args": ["touch", path]}},
      "no_name_of_a_class": {"class_name": ["Lambda"], "config": {}},
      "argument_of_a_call": dict(_HARMLESS, inbound_nodes=[
          [["in", 0, 0, {"mask": _SYSTEM}]]]),
      "dtype": _dense(dtype={"class_name": "Mine", "config": {}}),
      "bytecode_beside": _dense(function_type="lambda"),
      "op_that_writes": _op(op="WriteFile"),
      "op_that_calls_python": _op(op="PyFunc"),
      "op_with_a_gradient": _op(op="Identity", attr={
          "_gradient_op_type": {"s": "Q3VzdG9tR3JhZGllbnQtNw=="}}),
      "no_op": _op(op=7),
  }


class CheckTest(folders.FolderTest, graphs.GraphTest):

  def write(self, layers, name="m.h5"):
    with h5py.File(self.path(name), "w") as file:
      file.attrs["keras_version"] = b"2.9.0"
      file.attrs["model_config"] = json.dumps({
          "class_name": "Sequential", "config": {
              "name": "network", "layers": layers}}).encode()
      weights = file.create_group("model_weights")
      weights.attrs["layer_names"] = [b"top"]
      group = weights.create_group("top")
      group.attrs["weight_names"] = [b"kernel:0", b"bias:0"]
      group["kernel:0"], group["bias:0"] = np.ones([3, 2]), np.ones([2])
    return self.path(name)

  @parameterized.parameters(*sorted(_planted("")))
  def test_refused_before_keras_sees_it(self, name):
    made = self.path("made")
    path = self.write([_HARMLESS, _planted(made)[name]])
    with mock.patch.object(keras_files._tf, "keras") as keras:
      with self.assertRaises(gf.UnsupportedGraphError) as caught:
        gf.load(path)
    keras.assert_not_called()
    self.assertIn(path, caught.exception.what)
    self.assertRegex(str(caught.exception), "SavedModel")
    self.assertFalse(os.path.exists(made))

  def test_the_planted_code_would_run(self):
    made = self.path("made")
    code = _planted(made)["mask"]["config"]["mask"][0]
    function = type(lambda: 0)(marshal.loads(base64.b64decode(code)),
                               {"open": open})
    function()
    self.assertTrue(os.path.exists(made))

  def test_what_keras_has_is_not_refused(self):
    keras_configs.check("m.h5", {"class_name": "Sequential", "config": {
        "name": "network", "layers": [
            _HARMLESS, _dense(activation={
                "module": "builtins", "class_name": "function",
                "config": "relu", "registered_name": "relu"}),
            _dense(dtype={"class_name": "Policy", "config": {
                "name": "mixed_float16"}}), _op(op="Mul")]}})

  def test_how_a_part_was_trained_is_not_built(self):
    config = dict(copy.deepcopy(_HARMLESS), compile_config={"loss": _SYSTEM})
    keras_configs.check("m.h5", config)
    self.assertNotIn("compile_config", config)

  def test_nested_too_deep(self):
    layer = _HARMLESS
    for _ in range(3000):
      layer = {"class_name": "TimeDistributed", "config": {
          "name": "w", "layer": layer}}
    with self.assertRaisesRegex(gf.UnsupportedGraphError, "nested too deep"):
      keras_configs.check("m.h5", layer)

  @parameterized.parameters("link", "storage")
  def test_weights_in_other_files(self, kind):
    path = self.write([_HARMLESS])
    with open(self.path("secret"), "wb") as output:
      output.write(b"secrets!" * 6)
    with h5py.File(path, "a") as file:
      group = file["model_weights/top"]
      del group["kernel:0"]
      if kind == "link":
        group["kernel:0"] = h5py.ExternalLink(self.path("secret"), "kernel")
      else:
        group.create_dataset("kernel:0", [3, 2], np.float64, external=[
            (self.path("secret"), 0, 48)])
    with self.assertRaisesRegex(gf.ModelFileError, "another file"):
      gf.load(path)
