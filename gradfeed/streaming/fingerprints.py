"""What a stream belongs to: the model, the tensors, and the points."""

from gradfeed.evaluation import model_digests


def of_stream(f, source, chunk):
  """What the results depend on, beside the points.

  Args:
    f: `functions.Function`.
    source: `point_sources.Points`.
    chunk: int, the size of the chunks where rows depend on each other; or
      False.

  Returns:
    dict of what JSON can hold. An error names the keys whose values differ.
  """
  return {"model": model_digests.digest_of(f.outputs, f.constants()),
          "tensors": model_digests.sha256(
              [t.name.encode() for t in source.inputs + f.outputs]),
          "chunks": chunk}


def first_change(source, steps):
  """The first rows of an earlier call that are not the same now.

  Files that were not changed since then are not read again.

  Args:
    source: `point_sources.Points`.
    steps: list of dict, one for each entry of the journal.

  Returns:
    str, such as "rows 0 to 255"; or None where all are the same.
  """
  identity = source.identity()
  if not steps or identity is not None and identity == steps[-1]["identity"]:
    return None
  change = source.first_change(
      [pair for step in steps for pair in step["points"]])
  return change and "rows {} to {}".format(change[0], change[1] - 1)
