"""Short texts of many numbers, which are read as the same numbers."""

import itertools

import numpy as np

#: Numbers whose texts are made together: all about them stays in the cache.
_AT_ONCE = 2 ** 15
#: Bytes for one number: its text is at most 19, the last is what follows it.
_WIDTH = 24
#: Digits that tell every float32 from the next one.
_DIGITS = 9
#: A float32 is the nearest one to each decimal of so many digits.
_CERTAIN_DIGITS = 6
_LEAST_POWER, _MOST_POWER = -70, 70
_POWERS = np.array(
    [float("1e{}".format(i)) for i in range(_LEAST_POWER, _MOST_POWER + 1)])
#: The digits of each number below 10,000, in the bytes of one integer.
_FOUR_DIGITS = np.frombuffer(
    "".join("{:04d}".format(i) for i in range(10000)).encode(), np.uint32)
_ZERO, _POINT, _MINUS = b"0."[0], b"."[0], b"-"[0]


def rows_of_texts(values):
  """The texts of the rows of an array.

  They are as Python writes a float: "0.0001", "1e-05", "1.5e+16", "nan". None
  has more digits than the number needs, but for numbers below 1e-37 and for a
  few above 1e7.

  Args:
    values: array of shape [rows, columns], one column at least, of float32, of
      float64 or of whole numbers or bools.

  Returns:
    list of bytes, the texts of each row with commas between.
  """
  if values.dtype != np.float32:
    return [repr(row)[1:-1].replace(", ", ",").encode()
            for row in values.tolist()]
  size = max(1, _AT_ONCE // values.shape[1])
  return list(itertools.chain.from_iterable(
      _rows_of_float32(values[i:i + size])
      for i in range(0, len(values), size)))


def _rows_of_float32(values):
  """As `rows_of_texts`, for few rows."""
  texts = _fields(np.ascontiguousarray(values).ravel())
  texts[:, -1] = b","[0]
  texts.reshape(values.shape + (_WIDTH,))[:, -1, -1] = b"\n"[0]
  return texts.tobytes().translate(None, b"\0").splitlines()


def _fields(values):
  """The text of each number, with zeros in between.

  Args:
    values: array of float32, of shape [numbers].

  Returns:
    array of bytes, of shape [numbers, _WIDTH]; the last is free.
  """
  is_finite = np.isfinite(values)
  magnitudes = np.abs(np.where(is_finite, values, 0)).astype(np.float64)
  digits, powers = _decimals(magnitudes)
  order = np.argsort(powers.astype(np.int8), kind="stable")
  chars = _chars(digits[order])
  texts = np.zeros((_WIDTH, len(values)), np.uint8)
  texts[0] = np.signbit(values)[order] * np.uint8(_MINUS)
  powers = powers[order]
  begins = np.flatnonzero(np.diff(powers, prepend=powers[:1] - 1))
  for begin, end in zip(begins, list(begins[1:]) + [len(powers)]):
    _place(texts[1:, begin:end], chars[:, begin:end], int(powers[begin]))
  texts = np.ascontiguousarray(texts.T)
  ordered = np.empty_like(texts)
  ordered.view(np.uint64)[order] = texts.view(np.uint64)
  if not is_finite.all():
    ordered[~is_finite, 1:] = 0
    for text, where in ((b"nan", np.isnan(values)), (b"inf", np.isinf(values))):
      ordered[where, 1:4] = np.frombuffer(text, np.uint8)
    ordered[np.isnan(values), 0] = 0
  return ordered


def _decimals(magnitudes):
  """The shortest decimals whose nearest float32 are some numbers.

  Args:
    magnitudes: array of float64, the values of float32 that are not negative.

  Returns:
    (array of the first nine digits of each as a whole number, array of the
    power of ten of the first digit).
  """
  with np.errstate(divide="ignore"):
    powers = np.floor(np.log10(magnitudes))
  powers = np.where(magnitudes > 0, powers, 0).astype(np.int64)
  powers += magnitudes >= _power(powers + 1)
  powers -= (magnitudes < _power(powers)) & (magnitudes > 0)
  wanted = magnitudes.astype(np.float32)
  for count in range(_DIGITS, _CERTAIN_DIGITS - 1, -1):
    scale = _power(count - 1 - powers)
    candidates = np.rint(magnitudes * scale)
    if count == _DIGITS:
      digits = candidates
      continue
    # A little farther away, so that no rounding here makes it look nearer.
    there = magnitudes + (candidates / scale - magnitudes) * (1.0 + 1e-6)
    digits = np.where(there.astype(np.float32) == wanted,
                      candidates * 10.0 ** (_DIGITS - count), digits)
  is_carried = digits >= 10.0 ** _DIGITS
  return (np.where(is_carried, 10.0 ** (_DIGITS - 1), digits).astype(np.int64),
          powers + is_carried)


def _power(exponents):
  """10 to the power of each of the exponents."""
  return _POWERS.take(exponents - _LEAST_POWER)


def _chars(digits):
  """The digits of numbers of nine digits, without the zeros at their end.

  Returns:
    array of bytes, of shape [_DIGITS, numbers].
  """
  chars = np.empty((_DIGITS, len(digits)), np.uint8)
  high = digits // 10000
  first = high // 10000
  chars[0] = first + _ZERO
  for begin, four in ((1, high - first * 10000), (5, digits - high * 10000)):
    chars[begin:begin + 4] = _FOUR_DIGITS.take(four).view(np.uint8).reshape(
        -1, 4).T
  is_needed = np.zeros(len(digits), bool)
  for column in chars[:0:-1]:
    is_needed |= column != _ZERO
    column *= is_needed
  return chars


def _place(texts, chars, power):
  """Puts digits, point and exponent where they belong.

  Args:
    texts: array of bytes, of shape [_WIDTH - 1, numbers], of zeros.
    chars: as `_chars` gives them.
    power: int, the power of ten of the first digit of all of them.
  """
  if 0 <= power < 16:
    whole = power + 1
    for i in range(whole + 1):  # One after the point as well.
      texts[i + (i == whole)] = (
          np.maximum(chars[i], _ZERO) if i < _DIGITS else _ZERO)
    texts[whole] = _POINT
    if whole + 1 < _DIGITS:
      texts[whole + 2:_DIGITS + 1] = chars[whole + 1:]
  elif -4 <= power < 0:
    begin = 1 - power
    texts[:begin] = _ZERO
    texts[1] = _POINT
    texts[begin:begin + _DIGITS] = chars
  else:
    texts[0] = chars[0]
    texts[1] = (chars[1] != 0) * np.uint8(_POINT)
    texts[2:_DIGITS + 1] = chars[1:]
    exponent = np.frombuffer("e{:+03d}".format(power).encode(), np.uint8)
    texts[_DIGITS + 1:_DIGITS + 5] = exponent[:, None]
