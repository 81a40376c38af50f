"""Prints tables on a terminal, by a package that may be missing."""

from gradfeed import errors


def tabulate():
  """Imports the function `tabulate.tabulate`.

  Raises:
    DependencyError: the package is not installed; says how to install it.
  """
  try:
    import tabulate as library  # pylint: disable=g-import-not-at-top
  except ImportError:
    raise errors.DependencyError(
        "The tables need the package tabulate, which is not installed.",
        "gradfeed itself does without it.",
        "pip install 'gradfeed[cli]' (or: pip install tabulate)") from None
  return library.tabulate
