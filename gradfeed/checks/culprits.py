"""Ops in words: those of the model, also where a copy was differentiated."""

from gradfeed import memos


def name(op):
  """The name of `op`, or of what it is a copy of."""
  current = op.name
  twins = memos.memo_of(op.graph).twins
  while True:
    sources = [source for source, copies in list(twins.items())
               if any(copy.split(":")[0] == current for copy in copies)]
    if not sources:
      return current
    current = sources[0].split(":")[0]


def names(operations):
  return [name(op) for op in operations]


def told(op):
  """The type and the name: `Log 'model/Log'`."""
  return "{} '{}'".format(op.type, name(op))


def listed(operations, one="", many=""):
  """The first of some ops in words, with a verb."""
  words = ", ".join(map(told, operations[:3]))
  if len(operations) > 3:
    words += " and {} more".format(len(operations) - 3)
  return "{} {}".format(words, one if len(operations) == 1 else many).strip()
