"""Reads SavedModels with TensorFlow alone, as a program without gradfeed does.

  python tests/testing/saved_model_reader.py v1|v2 POINTS DIRECTORY ...

Prints JSON: for each directory, for each signature, a list with the outputs at
each point. POINTS is JSON, from the name of a directory to a list of dicts from
the name of each input to its value.
"""

import json
import os
import sys

import numpy as np
import tensorflow as tf


def _by_session(directory, points):
  """What the loader of TF 1 and a session give."""
  v1 = tf.compat.v1
  with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
    signatures = v1.saved_model.loader.load(
        session, ["serve"], directory).signature_def
    return {name: [
        session.run(
            {key: info.name for key, info in signature.outputs.items()},
            {signature.inputs[key].name: value for key, value in point.items()})
        for point in points] for name, signature in signatures.items()
            if not name.startswith("__")}


def _by_functions(directory, points):
  """What the functions of TF 2 give."""
  model = tf.saved_model.load(directory)

  def call(signature, point):
    specs = signature.structured_input_signature[1]
    return {key: tensor.numpy() for key, tensor in signature(**{
        key: tf.constant(point[key], spec.dtype)
        for key, spec in specs.items()}).items()}

  return {name: [call(signature, point) for point in points]
          for name, signature in model.signatures.items()}


def _plain(value):
  if isinstance(value, dict):
    return {key: _plain(inner) for key, inner in value.items()}
  if isinstance(value, list):
    return list(map(_plain, value))
  return np.asarray(value).tolist()


def main(how, points, *directories):
  with open(points) as source:
    points = json.load(source)
  read = {"v1": _by_session, "v2": _by_functions}[how]
  found = {directory: _plain(read(directory, points[
      os.path.basename(directory)])) for directory in directories}
  assert "gradfeed" not in sys.modules
  json.dump(found, sys.stdout)


if __name__ == "__main__":
  main(*sys.argv[1:])
