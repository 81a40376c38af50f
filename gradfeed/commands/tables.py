"""Tables on a terminal."""

from gradfeed import errors


def tabulate():
  """The function `tabulate.tabulate`.

  Raises:
    DependencyError: the package is not installed; says what to type.
  """
  try:
    import tabulate as library  # pylint: disable=g-import-not-at-top
  except ImportError:
    raise errors.DependencyError(
        "The tables need the package tabulate, which is not installed.",
        "gradfeed itself does without it.",
        "pip install 'gradfeed[cli]' (or: pip install tabulate)") from None
  return library.tabulate
