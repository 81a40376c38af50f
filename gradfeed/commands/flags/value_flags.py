"""Parses the values of tensors in the flags `--feed` and `--row`."""

import ast

from gradfeed._tf import tf
from gradfeed import errors
from gradfeed.graph import tensors
from gradfeed.streaming.formats import npy


def parse_feeds(texts, graph):
  """Parses the values that `--feed` gives to tensors.

  Args:
    texts: list of str, NAME=VALUE.
    graph: `tf.Graph` that the names are of.

  Returns:
    dict from the name of each tensor to its value.

  Raises:
    ArgumentError: one of them is not NAME=VALUE.
    TensorNotFoundError: one names no tensor.
  """
  feeds = {}
  for name, value in _pairs(texts, "feed", "VALUE", "keep_prob:0=1.0"):
    dtype = tensors.resolve(name, graph, "--feed").dtype
    feeds[name] = value if dtype == tf.string else _value(name, value)
  return feeds


def parse_rows(texts, graph):
  """Parses where `--row` says that the values of tensors are.

  Args:
    texts: list of str, NAME=KEY.
    graph: `tf.Graph` that the names are of.

  Returns:
    list of (`tf.Tensor`, str, its key).

  Raises:
    ArgumentError: one of them is not NAME=KEY.
    TensorNotFoundError: one names no tensor.
  """
  return [(tensors.resolve(name, graph, "--row").tensor, key)
          for name, key in split_rows(texts)]


def split_rows(texts):
  """The parts of what `--row` says, as list of (name of a tensor, key).

  Raises:
    ArgumentError: one of them is not NAME=KEY.
  """
  return _pairs(texts, "row", "KEY", "labels:0=label")


def _pairs(texts, flag, value, example):
  """Splits texts at the equals sign.

  Args:
    texts: list of str.
    flag: str, the name of the flag, for errors.
    value: str, what stands to the right of the sign, in capitals.
    example: str, a text as it should be.

  Returns:
    list of (name, text to the right of the sign).

  Raises:
    ArgumentError: one of them has no equals sign, or a name is given twice.
  """
  pairs = []
  for text in texts:
    name, equals, right = text.partition("=")
    if not (name and equals and right):
      raise errors.ArgumentError(
          "--{}={} is not NAME={}.".format(flag, text, value),
          "It is the name of a tensor, and what it is given.",
          "Write it as in --{}={}.".format(flag, example))
    if name in dict(pairs):
      raise errors.ArgumentError(
          "--{}={} is given twice.".format(flag, name),
          "A tensor has one value.", "Leave one of them out.")
    pairs.append((name, right))
  return pairs


def _value(name, text):
  """The value that a text of `--feed` means: a literal of Python, or a file.

  Raises:
    ArgumentError: it is neither; says so with the name of the tensor.
  """
  if text.endswith(".npy"):
    return npy.load(text)
  try:
    return ast.literal_eval({"true": "True", "false": "False"}.get(
        text.lower(), text))
  except (ValueError, SyntaxError):
    raise errors.ArgumentError(
        "--feed={}={} is not a value.".format(name, text),
        "It is neither a number, nor True or False, nor a list of them, nor a "
        ".npy file.", "Write it as in --feed={}=1.0.".format(name)) from None


def require_all_fed(f, x=None):
  """Refuses a function with placeholders that have no value.

  Args:
    f: `functions.Function`.
    x: `tf.Tensor` that has a value at each point of a file, for a command with
      the flag `--row`; or None.

  Raises:
    MissingFeedError: there are some; says which flags to add.
  """
  if f.needs:
    rows = [t for t in f.needs if x is not None and _has_rows(t) and
            _has_rows(x)]
    raise errors.MissingFeedError(
        "No value for {}.".format(tensors.describe_all(f.needs)),
        "What is evaluated depends on it.{}".format(
            " Of {} there has to be a row for each row of {}.".format(
                tensors.describe_all(rows), tensors.describe(x))
            if rows else ""),
        "Add {}.".format(" ".join(
            "--row={}=KEY".format(tensor.name)
            if any(tensor is row for row in rows) else
            "--feed={}=VALUE".format(tensor.name) for tensor in f.needs)))


def _has_rows(tensor):
  """Whether the first axis of `tensor` may have any length."""
  return bool(tensor.shape.ndims) and tensor.shape.as_list()[0] is None
