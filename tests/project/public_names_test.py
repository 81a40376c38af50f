"""What a user can see of the package is what public_names.txt lists.

After a change that is meant: python -m tests.project.public_names_test
"""

import inspect
import os

from absl.testing import absltest

import gradfeed
import gradfeed.shards

#: Packages with public names of their own, beside those of gradfeed.
_PACKAGES = [gradfeed.shards]
try:
  import gradfeed.beam  # pylint: disable=g-import-not-at-top
  _PACKAGES.append(gradfeed.beam)
except gradfeed.DependencyError:
  pass  # It needs an extra.

_LIST = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                     "public_names.txt")


def _line(name, thing):
  """`name(arguments): the first line of its docstring`."""
  signature = ""
  if inspect.isclass(thing):
    bases = [base.__name__ for base in thing.__bases__
             if base.__module__ == "builtins" and base is not object or
             getattr(gradfeed, base.__name__, None) is base]
    signature = "({})".format(", ".join(bases)) if bases else ""
  elif callable(thing):
    signature = str(inspect.signature(thing))
  doc = inspect.getdoc(thing) or ""
  return "{}{}: {}".format(name, signature, doc.split("\n")[0])


def listing():
  """One line for each public name, and for each public member of a class."""
  lines = []
  for package in [gradfeed] + _PACKAGES:
    prefix = package.__name__[len("gradfeed."):]
    for name in sorted(package.__all__):
      thing = getattr(package, name)
      lines.append(_line(".".join(filter(None, [prefix, name])), thing))
      if inspect.isclass(thing):
        for member in sorted(vars(thing)):
          if member == "__call__" or not member.startswith("_"):
            lines.append("  " + _line(member, getattr(thing, member)))
  return "\n".join(lines) + "\n"


class PublicNamesTest(absltest.TestCase):

  def test_names_signatures_and_first_lines_are_those_of_the_list(self):
    with open(_LIST, encoding="utf-8") as listed:
      text = listed.read()
    if not hasattr(gradfeed, "beam"):  # Its names are the last ones.
      text = text[:text.index("beam.")]
    self.assertMultiLineEqual(listing(), text)


if __name__ == "__main__":
  with open(_LIST, "w", encoding="utf-8") as output:
    output.write(listing())
