"""Gradients of a TensorFlow 1 graph as steps of an Apache Beam pipeline.

It needs the package apache-beam, which `pip install 'gradfeed[beam]'` brings.
"""

from gradfeed import errors

try:
  import apache_beam as _
except ImportError as _error:
  raise errors.DependencyError(
      "gradfeed.beam needs Apache Beam, which cannot be imported ({}).".format(
          errors.first_line(_error)),
      "Beam is an extra, since most programs do without it.",
      "pip install 'gradfeed[beam]'.") from _error
# pylint: disable=wrong-import-position
from gradfeed.beam.elements import Refused
from gradfeed.beam.handlers import GradientModelHandler
from gradfeed.beam.pipelines import run_shards
from gradfeed.beam.pipelines import StreamShards
from gradfeed.beam.transforms import Gradients

__all__ = ["GradientModelHandler", "Gradients", "Refused", "run_shards",
           "StreamShards"]
