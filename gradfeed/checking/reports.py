"""`Check`, the report of `check`: a verdict, numbers, findings."""

from gradfeed.checking import directional_tests
from gradfeed.checking import finite_differences
from gradfeed import errors
from gradfeed.findings import BAD
from gradfeed.findings import Finding
from gradfeed.findings import FindingsReport
from gradfeed.findings import WARNING

#: What stands for the directions in what a check has to look at.
DIRECTIONS = "directions"


class Check(FindingsReport):
  """What `check` returns: prints as a page, and holds the numbers.

  Attributes:
    verdict: "right", "wrong" or "undecidable".
    summary: str, the sentence that goes with it.
    findings: list of `Finding`, the worst first.
    error: float, how far the gradient and the differences are apart at the
      most, relative to the gradient; NaN where there are no differences.
    tolerance: float, how far apart they may be, relative as well.
    rows: list of dicts, one for each direction: direction, gradient,
      difference, tolerance, verdict.
    shares: dict from "zero", "nan", "inf", "denormal" to the share of the
      gradient's elements that are so.
    precision: "float64", or "session" where the differences are those of the
      caller's graph in its own precision.
    gradients: list of arrays, the gradient by each x.
  """

  def __init__(self, ys, xs, rows, findings, shares, reasons, forward,
               gradients, eps, budget):
    """Sums up a check.

    Args:
      ys: str, y in words.
      xs: str, x in words.
      rows: list of dicts, as in the attribute.
      findings: list of `Finding`.
      shares: dict, as in the attribute.
      reasons: list of str, why the verdict is open, if it is.
      forward: `forward_functions.ForwardFunction`.
      gradients: list of arrays.
      eps: float, of the least precise dtype between x and y.
      budget: `budgets.Budget`.
    """
    least = max(1e-6, 100.0 * eps)  # The same on every machine.
    if budget.is_spent:
      findings = findings + [_out_of_time(rows, budget)]
    verdict, why = _verdict(findings, reasons, budget)
    self.rows = rows
    self.shares = shares
    self.precision = "float64" if forward.is_float64 else "session"
    self.gradients = gradients
    settled = [
        row for row in rows if row["verdict"] != directional_tests.UNDECIDABLE
    ]
    self.error = max([row["off"] for row in settled] or [float("nan")])
    self.tolerance = max([row["allowed"] for row in settled] or [float("nan")])
    summary = "the gradient of {} by {} ".format(ys, xs)
    if verdict == directional_tests.RIGHT:
      summary += "agrees with finite differences {}to within {:.0e}.".format(
          "in float64 " if forward.is_float64 else "",
          max(self.tolerance, least))
    elif verdict == directional_tests.WRONG:
      summary += "is not the derivative."
    elif why is budget:
      summary = _until_the_end(summary, rows, budget, self.error)
    else:
      summary += "cannot be told from finite differences: {}.".format(why)
    super().__init__(verdict, summary, findings)

  def to_dict(self):
    """The report as data.

    Returns:
      dict of what JSON can hold.
    """
    return dict(
        super().to_dict(), error=_number(self.error),
        tolerance=_number(self.tolerance), shares=self.shares,
        precision=self.precision, rows=[
            {key: _number(value) for key, value in row.items()}
            for row in self.rows])

  def __str__(self):
    lines = [super().__str__(), ""]
    if self.rows:
      labels = [errors.printable(row["direction"]) for row in self.rows]
      width = max(map(len, labels))
      lines.append("{}  {:>12}  {:>12}".format(
          "along".ljust(width), "gradient", "differences"))
      for row, label in zip(self.rows, labels):
        lines.append("{}  {:>12.5g}  {:>12.5g}{}".format(
            label.ljust(width), row["gradient"],
            _shown_difference(row),
            "" if row["verdict"] == directional_tests.RIGHT else
            "  " + row["verdict"]))
      lines.append("")
    lines.append(
        "exact zeros {zero:.0%}, NaN {nan:.0%}, infinite {inf:.0%}, denormal "
        "{denormal:.0%} of the gradient.".format(**self.shares))
    return "\n".join(lines)

  __repr__ = __str__


def _out_of_time(rows, budget):
  """The `Finding` that names what there was no time for."""
  missing = []
  for what in budget.missing or ["any comparison"]:
    if what == DIRECTIONS:
      what = ("{} of {} directions".format(
          budget.directions - budget.compared, budget.directions)
              if budget.compared < budget.directions else
              "the elements, beside those in float64"
              if budget.directions else "all directions")
    missing.append(what)
  return Finding(
      "time", WARNING, "There was no time left for {}.".format(
          "; ".join(missing)), "", "Give it more seconds, or a smaller batch.",
      seconds=budget.seconds, directions=budget.directions,
      compared=budget.compared, agreeing=_count_agreeing(rows),
      missing=missing)


def _until_the_end(gradient, rows, budget, error):
  """The sentence about a check that ran out of time."""
  start = "out of time after {:g} s, ".format(budget.seconds)
  if not rows:
    return start + "before {}was compared with finite differences.".format(
        gradient)
  return start + ("with {}compared along {} of {} directions: {} agree with "
                  "finite differences{}.".format(
                      gradient, budget.compared, budget.directions,
                      _count_agreeing(rows), "" if error != error else
                      ", and the largest difference is {:.1e} of the "
                      "gradient".format(error)))


def _count_agreeing(rows):
  return sum(row["verdict"] == directional_tests.RIGHT for row in rows)


def _verdict(findings, reasons, budget):
  """(verdict, the first of the reasons if it is open, else "").

  The reason is `budget` where nothing is open but for lack of time.
  """
  if any(finding.severity == BAD for finding in findings):
    return directional_tests.WRONG, ""
  if reasons:
    return directional_tests.UNDECIDABLE, reasons[0]
  if budget.is_spent:
    return directional_tests.UNDECIDABLE, budget
  return directional_tests.RIGHT, ""


def _shown_difference(row):
  """The difference of a row; 0 where its error is larger."""
  value = row["difference"]
  return 0.0 if abs(value) <= row["tolerance"] else value


def _number(value):
  """`value` as JSON can hold it: None for NaN and infinity."""
  if isinstance(value, str):
    return value
  return None if value != value or abs(value) == float("inf") else float(value)


def relative_error(test):
  """The error of the gradient in a direction, relative to the derivative."""
  return _relative_to_size(abs(test.gradient - test.difference), test)


def _relative_to_size(number, test):
  """`number` divided by the size of the derivative; 0 where that is lost."""
  # `test.size` is that of the gradient, which may itself be wrong.
  size = test.size and max(
      test.size - abs(test.gradient - test.difference),
      abs(test.difference))
  return number / size if size else 0.0


def percent(share):
  """A share as text, in percent with two digits."""
  return ("{:.0f}%" if share > 0.99 else "{:.2g}%").format(100.0 * share)


def per_unit_length(test):
  """(slope by the gradient, slope by differences) per unit of length."""
  length = finite_differences.norm(test.direction)
  return test.gradient / length, test.difference / length


def row(test, label):
  """The row of the report for one direction.

  Args:
    test: `directional_tests.DirectionalTest`.
    label: str, in front of the label of the direction.

  Returns:
    dict of strings and floats.
  """
  length = finite_differences.norm(test.direction)
  gradient, difference = per_unit_length(test)
  return {
      "direction": label + test.direction.label,
      "gradient": float(gradient), "difference": float(difference),
      "tolerance": float(test.tolerance / length),
      "off": float(relative_error(test)),
      "allowed": float(_relative_to_size(test.tolerance, test)),
      "verdict": test.verdict}
