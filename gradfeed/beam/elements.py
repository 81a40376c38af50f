"""Elements of a pipeline as rows that a function is evaluated at.

Which value belongs to which input, and whether a row is good, is found for each
row by itself: it does not depend on the rows that happen to be in a bundle with
it. Rows of one shape and dtype are put together.
"""

from collections import abc
import collections

import numpy as np

from gradfeed import errors
from gradfeed.graph import tensors
from gradfeed.streaming import point_sources
from gradfeed.streaming.formats import iterators
from gradfeed.streaming.formats import row_layout
from gradfeed.streaming.formats import tfrecords

#: Rows of one shape and dtype: their places among the elements, how a row
#: becomes a value of each input (`row_layout.batch_form_of`), and an array for
#: each input.
Rows = collections.namedtuple("Rows", ["places", "forms", "arrays"])

#: Shapes whose form is kept.
_MOST_FORMS = 1000


class Refused:
  """Stands for the result of a row that cannot be evaluated.

  Attributes:
    reason: str, what is wrong with the row: "is not finite".
  """

  def __init__(self, reason):
    self.reason = reason

  def __eq__(self, other):
    return isinstance(other, Refused) and self.reason == other.reason

  def __hash__(self):
    return hash(self.reason)

  def __repr__(self):
    return "Refused({!r})".format(self.reason)


class ElementParser:
  """Makes `Rows` of elements: arrays, tuples, dicts and serialized Examples."""

  def __init__(self, inputs, keys):
    """Prepares.

    Args:
      inputs: list of the inputs.
      keys: list of what each is called in a dict or an Example, or None.
    """
    self._inputs, self._keys = inputs, keys
    self._texts = iterators.are_texts(inputs)
    self._examples = tfrecords.Examples(inputs, keys)
    self._forms = {}  # From (place of an input, shape) to the form.

  def parse(self, elements):
    """Divides elements into rows that can be evaluated, and bad ones.

    Args:
      elements: list.

    Returns:
      (list of `Rows`, dict from the place of each bad element to the reason).
    """
    bad, groups, together = {}, {}, []
    alone = range(len(elements))
    records = [i for i in alone if isinstance(elements[i], bytes)]
    if len(records) > 1:
      rows = self._records_at_once(records, elements)
      if rows is not None:
        together.append(rows)
        alone = sorted(set(alone) - set(records))
    for i in alone:
      try:
        forms, arrays = self._row_of(elements[i])
      except row_layout.Unreadable as error:
        bad[i] = str(error)
      else:
        key = forms, tuple((array.shape, array.dtype.str) for array in arrays)
        groups.setdefault(key, []).append((i, arrays))
    for (forms, _), members in groups.items():
      together.append(Rows(
          [i for i, _ in members], forms,
          [np.stack(arrays) for arrays in zip(*[row for _, row in members])]))
    return [rows for rows in (_finite(rows, bad) for rows in together)
            if rows.places], bad

  def _records_at_once(self, places, elements):
    """`Rows` of serialized Examples that are all alike; or None."""
    try:
      flat = self._examples.values_at_once([elements[i] for i in places], True)
      forms, shapes = zip(*[
          _form_of_numbers(array.shape[1], leaf)
          for array, leaf in zip(flat, self._inputs)])
    except row_layout.Unreadable:
      return None  # They are read one by one, which tells the bad ones.
    return Rows(places, forms, [
        array.reshape((len(places),) + tuple(shape))
        for array, shape in zip(flat, shapes)])

  def _row_of(self, element):
    """(tuple of the form of each input, list of the array of each input).

    Raises:
      Unreadable: with the reason.
    """
    if isinstance(element, bytes):
      flat = self._examples.values_of(element)
      forms, shapes = zip(*[
          _form_of_numbers(len(values), leaf)
          for values, leaf in zip(flat, self._inputs)])
      return forms, [
          np.reshape(values, shape) for values, shape in zip(flat, shapes)]
    if isinstance(element, abc.Mapping):
      element = tuple(map(
          lambda leaf, key: self._entry(element, leaf, key), self._inputs,
          self._keys))
    arrays = iterators.arrays_of(element, self._inputs, self._texts)
    return tuple([self._form_of(i, array.shape)
                  for i, array in enumerate(arrays)]), arrays

  def _form_of(self, i, shape):
    """How a value of this shape becomes a value of input `i`.

    Raises:
      Unreadable: it does not.
    """
    form = self._forms.get((i, shape))
    if form is None:
      form = _form_of_shape(shape, self._inputs[i])
      if len(self._forms) < _MOST_FORMS:
        self._forms[i, shape] = form
    return form

  def _entry(self, mapping, leaf, key):
    """The value of an input in a dict.

    Raises:
      Unreadable: there is none.
    """
    names = row_layout.candidate_names(leaf, key, mapping, len(self._inputs))
    for name in names:
      if name in mapping:
        return mapping[name]
    raise row_layout.Unreadable("has no '{}' but {}".format(
        names[0], ", ".join(sorted(map(repr, mapping))) or "nothing"))


def _finite(rows, bad):
  """`Rows` without those that are not finite, which are added to `bad`."""
  is_finite = np.ones(len(rows.places), bool)
  for array in rows.arrays:
    is_finite &= point_sources.finite_rows(array)
  if is_finite.all():
    return rows
  bad.update((i, "is not finite")
             for i, is_good in zip(rows.places, is_finite) if not is_good)
  return Rows([i for i, is_good in zip(rows.places, is_finite) if is_good],
              rows.forms, [array[is_finite] for array in rows.arrays])


def _form_of_shape(shape, leaf):
  """How a value of this shape becomes a value of an input.

  Raises:
    Unreadable: it does not.
  """
  try:
    form = row_layout.batch_form_of((1,) + shape, leaf)
  except errors.FeedError:
    form = None
  return _checked_form(form, shape, leaf)


def _form_of_numbers(count, leaf):
  """(form, shape) of a row that is stored as flat numbers.

  Raises:
    Unreadable: so many numbers are no row.
  """
  form, shape = row_layout.batch_form_of_numbers(count, leaf)
  return _checked_form(form, tuple(shape), leaf), shape


def _checked_form(form, shape, leaf):
  """`form`; refuses several rows of a batch in the place of one.

  Raises:
    Unreadable: with the reason.
  """
  dims = leaf.shape.as_list() if leaf.shape.ndims else [0]
  if form is None or form == "bare" and dims[0] is None and shape[0] != 1:
    raise row_layout.Unreadable("has the shape {}, which is no row of {}".format(
        tensors.format_shape(shape), tensors.describe(leaf)))
  return form
