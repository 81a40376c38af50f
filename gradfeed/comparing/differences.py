"""How far two results are apart, against what the rounding of floats allows."""

import numpy as np

#: How many roundings of the largest element may add up, and the least bound.
_ROUNDINGS, _LEAST = 256.0, 1e-10

#: How much further two results may be apart than the old result moves when the
#: point moves by a rounding.
_OF_SPREAD = 16.0


def precision(arrays):
  """The eps of the least precise floating dtype among arrays."""
  return max([float(np.finfo(a.dtype).eps) for a in map(np.asarray, arrays)
              if a.dtype.kind in "fc"] or [0.0])


def difference(old, new, eps, spread=None):
  """Compares one result of both sides at one point.

  Args:
    old: array; None for a gradient that is not connected: zeros.
    new: the same.
    eps: float, the rounding of the less precise side.
    spread: array like `old`: how far it moves when the point is rounded; or
      None.

  Returns:
    dict: excess (error in units of what is allowed; 0 for equal arrays), error
    and allowed at the worst element, old and new there, index, shapes.
  """
  old = np.zeros_like(new) if old is None and new is not None else old
  new = np.zeros_like(old) if new is None and old is not None else new
  if old is None:
    return _row(0.0, 0.0, 0.0, 0.0, 0.0, (), None)
  old, new = np.asarray(old), np.asarray(new)
  if old.shape != new.shape:
    return _row(np.inf, np.inf, 0.0, np.nan, np.nan, (),
                (list(old.shape), list(new.shape)))
  if not old.size:
    return _row(0.0, 0.0, 0.0, 0.0, 0.0, (), None)
  kind = np.complex128 if "c" in old.dtype.kind + new.dtype.kind else np.float64
  a, b = old.astype(kind), new.astype(kind)
  with np.errstate(all="ignore"):
    finite = np.isfinite(a)
    size = np.max(np.abs(a[finite]), initial=0.0)
    allowed = max(_ROUNDINGS * eps, _LEAST) * (np.abs(a) + size) / 2.0
    if spread is not None and np.shape(spread) == a.shape:
      moves = np.abs(np.asarray(spread, kind))
      allowed = allowed + _OF_SPREAD * np.where(np.isfinite(moves), moves, 0.0)
    allowed = np.maximum(allowed, 1e-30)
    error = np.abs(a - b)
    excess = np.where(np.isfinite(error), error / allowed, np.where(
        (a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.inf))
  index = np.unravel_index(int(np.argmax(excess)), excess.shape)
  return _row(excess[index], error[index], allowed[index], a[index], b[index],
              tuple(map(int, index)), None)


def _row(excess, error, allowed, old, new, index, shapes):
  return {"excess": float(excess), "error": float(error),
          "allowed": float(allowed), "old": old, "new": new,
          "index": list(index), "shapes": shapes}


def agrees(row):
  """Whether a row of `difference` is within what is allowed."""
  return row["excess"] <= 1.0


def is_same_set(old, new, eps):
  """Whether two arrays hold the same numbers, in whatever shape and order."""
  if np.size(old) != np.size(new):
    return False
  a = np.sort(np.ravel(old).astype(np.float64))
  b = np.sort(np.ravel(new).astype(np.float64))
  return agrees(difference(a, b, eps))
