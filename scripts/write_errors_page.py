"""Writes docs/errors.md from the docstrings in gradfeed/errors.py.

  python scripts/write_errors_page.py

In a checkout, after a change of gradfeed/errors.py. The first sentence of the
docstring of an error says when it comes, the paragraph "Fix:" what to do.
"""

import inspect
import os
import sys

from absl import app

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_PATH = os.path.join(_ROOT, "docs", "errors.md")

if __name__ == "__main__":
  sys.path.insert(0, _ROOT)

from gradfeed import errors  # pylint: disable=wrong-import-position

_PAGE = '''\
# Errors

Every error says what, why, and how to mend it, and is also the builtin, or the
error of `tf.errors`, that older code catches. All derive from
`gf.GradfeedError`, whose attributes `what`, `why` and `fix` are the three parts
of the message. Those of `tf.errors` have its attributes `message`, `op`,
`node_def` and `error_code` as well. Every error can be copied, pickled, and
made anew with a longer text: `type(error)("text")`.

```python
import tensorflow.compat.v1 as tf
import gradfeed as gf

tf.disable_v2_behavior()  # For TensorFlow 2; 1.15 does without.
x = tf.placeholder(tf.float64, [None, 2], name="x")
y = tf.reduce_sum(tf.round(x), name="y")
try:
  gf.gradient(y, x)
except ValueError as error:  # A gf.DisconnectedError is one.
  print(error)
```

```text
No gradient of 'y:0' (float64, []) by 'x:0' (float64, [?, 2]).
  Why: No gradient passes Round 'Round' (example.py:6), which lies between them.
  Fix: Differentiate by 'Round:0' (float64, [?, 2]), the first floating tensor \
after it that a gradient reaches.
```

Arguments are checked before an op is built: a call that is refused leaves the
graph as it was. `gf.GradfeedWarning` is a `UserWarning`: something that is
probably not what was meant.

| error | also a | when | what to do |
|---|---|---|---|
{rows}

This page is written by `python scripts/write_errors_page.py` from
`gradfeed/errors.py`.
'''

def kinds():
  """The classes of errors, by name, without their base."""
  return [kind for _, kind in sorted(vars(errors).items())
          if inspect.isclass(kind) and kind is not errors.GradfeedError and
          issubclass(kind, errors.GradfeedError)]


def row(kind):
  """The row of the table for one class.

  Args:
    kind: subclass of `errors.GradfeedError`.

  Returns:
    str.

  Raises:
    ValueError: its docstring does not say what to do.
  """
  when, *paragraphs = inspect.getdoc(kind).split("\n\n")
  fixes = [paragraph[len("Fix: "):] for paragraph in paragraphs
           if paragraph.startswith("Fix: ")]
  if len(fixes) != 1:
    raise ValueError("The docstring of {} needs one paragraph that begins with "
                     "'Fix:'.".format(kind.__name__))
  cells = ["`{}`".format(kind.__name__),
           ", ".join("`{}`".format(base.__name__)
                     for base in kind.__bases__[1:]), when, fixes[0]]
  return "| {} |".format(" | ".join(
      " ".join(cell.split()).replace("|", "\\|") for cell in cells))


def page():
  """The text of the page."""
  return _PAGE.format(rows="\n".join(map(row, kinds())))


def main(argv):
  if len(argv) > 1:
    raise app.UsageError("not a flag: {}".format(" ".join(argv[1:])))
  with open(_PATH, "w", encoding="utf-8") as output:
    output.write(page())
  print("wrote {}".format(os.path.relpath(_PATH)))


if __name__ == "__main__":
  app.run(main)
