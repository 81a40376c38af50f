"""Runs transforms in this process, and gives what they return as lists.

Importing this skips the tests of a module where Beam is not installed.
"""

import contextlib
import warnings

import pytest

with warnings.catch_warnings():
  warnings.simplefilter("ignore")
  beam = pytest.importorskip("apache_beam")
  from apache_beam.ml.inference import base
  import gradfeed.beam

_collected = {}


@contextlib.contextmanager
def quiet():
  """Keeps warnings of Beam out of a block."""
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    yield


def _collect(element, name):
  _collected.setdefault(name, []).append(element)


def run(elements, transform):
  """Applies a transform to elements.

  Args:
    elements: list.
    transform: `beam.PTransform`; or a function from a PCollection to one or to
      a tuple of several.

  Returns:
    (list of the elements of each PCollection, dict from the name of each metric
    of gradfeed to its value).
  """
  _collected.clear()
  with quiet():
    pipeline = beam.Pipeline("DirectRunner")
    results = (pipeline | beam.Create(elements)) | transform if isinstance(
        transform, beam.PTransform) else transform(
            pipeline | beam.Create(elements))
    several = results if isinstance(results, tuple) else (results,)
    for i, each in enumerate(several):
      _ = each | "Collect{}".format(i) >> beam.Map(_collect, i)
    result = pipeline.run()
    result.wait_until_finish()
    query = result.metrics().query()
  metrics = {each.key.metric.name: each.committed
             for kind in ("counters", "distributions") for each in query[kind]
             if each.key.metric.namespace == "gradfeed"}
  return [_collected.get(i, []) for i in range(len(several))], metrics
