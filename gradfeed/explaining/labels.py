"""Labels of the boxes of a picture, as long as they may be and no longer.

No font is at hand to measure them: they are cut so that they fit in a bold and
wide one.
"""

import html

from gradfeed import errors

#: Pixels: the width of a box, and the sizes of the letters of its two lines.
WIDTH, TITLE, SUBTITLE = 280, 13, 11

#: Pixels that are left free at both sides of a line; the most letters in it.
_MARGIN, _MOST_LETTERS = 8, 34

#: Letters that are wide or narrow, and the widths of these, of capitals and of
#: all others, in parts of their size.
_WIDE, _NARROW = frozenset("MWmw@%"), frozenset("ijl.,:;'|! ()[]/ft-\\")
_OF_WIDE, _OF_NARROW, _OF_CAPITALS, _OF_OTHERS = 1.1, 0.46, 0.82, 0.7


def cut(text):
  """A title: `text`, without its end if it does not fit into a box."""
  text = errors.printable(text)
  short, count = text, len(text)
  while not _fits(short, TITLE):
    count -= 1
    short = text[:count] + "..."
  return short


def middle_cut(name):
  """A title or subtitle: `name`, without its middle if it does not fit."""
  name = errors.printable(name)
  short, count = name, len(name)
  while not _fits(short, TITLE):
    count -= 1
    short = name[:count // 2] + "..." + name[len(name) - count // 2:]
  return short


def _fits(text, size):
  """Whether a line of letters of `size` pixels fits into a box."""
  return len(text) <= _MOST_LETTERS and size * sum(
      map(_letter_width, text)) <= WIDTH - 2 * _MARGIN


def _letter_width(letter):
  """The width of a letter, in parts of its size: more than it takes."""
  if letter in _NARROW:
    return _OF_NARROW
  if letter in _WIDE or ord(letter) > 0x2000:
    return _OF_WIDE
  return _OF_CAPITALS if letter.isupper() else _OF_OTHERS


def quoted(text):
  """`text` for HTML, with what cannot be printed as an escape of Python's."""
  return html.escape("\n".join(
      map(errors.printable, text.split("\n"))))
