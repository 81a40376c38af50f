"""`Comparison`, the report of `compare`: verdict, table, where it begins."""

import os

from gradfeed.comparing import pages
from gradfeed import errors
from gradfeed.findings import FindingsReport


class Comparison(FindingsReport):
  """What `compare` returns: prints as a page, and holds the numbers.

  Attributes:
    verdict: "agrees" or "differs".
    summary: str, the sentence that goes with it.
    findings: list of `Finding`, the worst first.
    rows: list of dicts, the worst point of each thing that is compared: kind
      ("value", "gradient", "layer", "layer gradient", "weight",
      "weight gradient", "second"), name, point, index, old, new, error,
      allowed, excess (error in units of what is allowed), agrees.
    begins: str, the tensor of the old code at which the difference begins; or
      None.
    layers: list of the names of the tensors that were compared on the way, in
      the order of the graph.
  """

  def __init__(self, verdict, summary, findings, rows, begins, layers):
    super().__init__(verdict, summary, findings)
    self.rows = rows
    self.begins = begins
    self.layers = layers

  def to_dict(self):
    """The report as data.

    Returns:
      dict of what JSON can hold.
    """
    return dict(super().to_dict(), begins=self.begins, layers=self.layers,
                rows=[{key: _plain(value) for key, value in row.items()}
                      for row in self.rows])

  def to_html(self, path=None):
    """The report with its picture as a page of HTML.

    Args:
      path: str, where to write it; None to return it alone.

    Returns:
      str.
    """
    text = pages.html(self)
    if path is not None:
      with open(os.fspath(path), "w", encoding="utf-8") as page:
        page.write(text)
    return text

  def __str__(self):
    lines = [super().__str__(), ""]
    shown = [row for row in self.rows
             if not row["kind"].startswith("layer") or not row["agrees"]][:20]
    labels = [errors.printable("{} {}".format(row["kind"], row["name"]))
              for row in shown]
    width = max([len(label) for label in labels] + [4])
    lines.append("{}  {:>11}  {:>11}  point".format(
        "what".ljust(width), "error", "allowed"))
    for row, label in zip(shown, labels):
      lines.append("{}  {:>11.3g}  {:>11.3g}  {}{}".format(
          label.ljust(width), row["error"], row["allowed"], row["point"],
          "" if row["agrees"] else "  differs"))
    return "\n".join(lines)

  __repr__ = __str__


def _plain(value):
  """`value` as JSON can hold it: None for NaN and infinity."""
  if isinstance(value, complex):
    return str(value)
  if isinstance(value, float):
    return None if value != value or abs(value) == float("inf") else (
        float(value))
  return value
