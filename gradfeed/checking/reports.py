"""What a check reports: a verdict, numbers, findings."""

from gradfeed.checking import directional_tests
from gradfeed.checking import finite_differences
from gradfeed.findings import BAD
from gradfeed.findings import FindingsReport


class Check(FindingsReport):
  """What `check` returns: prints as a page, and holds the numbers.

  Attributes:
    verdict: "right", "wrong" or "undecidable".
    summary: str, the sentence that goes with it.
    findings: list of `Finding`, the worst first.
    error: float, how far the gradient and the differences are apart at the
      most, in units of the gradient; NaN where there are no differences.
    tolerance: float, how far they may be, in the same units.
    rows: list of dicts, one for each direction: direction, gradient,
      difference, tolerance, verdict.
    shares: dict from "zero", "nan", "inf", "denormal" to the share of the
      gradient's elements that are it.
    precision: "float64", or "session" where the differences are those of the
      caller's graph as it is.
    gradients: list of arrays, the gradient by each x.
  """

  def __init__(self, ys, xs, rows, found, shares, reasons, forward, gradients,
               eps):
    least = max(1e-6, 100.0 * eps)  # The same on every machine.
    verdict, why = _verdict(found, reasons)
    self.rows = rows
    self.shares = shares
    self.precision = "float64" if forward.is_double else "session"
    self.gradients = gradients
    settled = [
        row for row in rows if row["verdict"] != directional_tests.UNDECIDABLE
    ]
    self.error = max([row["off"] for row in settled] or [float("nan")])
    self.tolerance = max([row["allowed"] for row in settled] or [float("nan")])
    told = "the gradient of {} by {} ".format(ys, xs)
    if verdict == directional_tests.RIGHT:
      told += "agrees with finite differences {}to within {:.0e}.".format(
          "in float64 " if forward.is_double else "",
          max(self.tolerance, least))
    elif verdict == directional_tests.WRONG:
      told += "is not the derivative."
    else:
      told += "cannot be told from finite differences: {}.".format(why)
    super().__init__(verdict, told, found)

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
      width = max(len(row["direction"]) for row in self.rows)
      lines.append("{}  {:>12}  {:>12}".format(
          "along".ljust(width), "gradient", "differences"))
      for row in self.rows:
        lines.append("{}  {:>12.5g}  {:>12.5g}{}".format(
            row["direction"].ljust(width), row["gradient"],
            _shown(row), "" if row["verdict"] == directional_tests.RIGHT else
            "  " + row["verdict"]))
      lines.append("")
    lines.append(
        "exact zeros {zero:.0%}, NaN {nan:.0%}, infinite {inf:.0%}, denormal "
        "{denormal:.0%} of the gradient.".format(**self.shares))
    return "\n".join(lines)

  __repr__ = __str__


def _verdict(found, reasons):
  if any(finding.severity == BAD for finding in found):
    return directional_tests.WRONG, ""
  if reasons:
    return directional_tests.UNDECIDABLE, reasons[0]
  return directional_tests.RIGHT, ""


def _shown(row):
  """The difference; 0 where it is lost in its own error."""
  value = row["difference"]
  return 0.0 if abs(value) <= row["tolerance"] else value


def _number(value):
  """`value` as JSON can hold it."""
  if isinstance(value, str):
    return value
  return None if value != value or abs(value) == float("inf") else float(value)


def off(trial):
  """How far a gradient is off, in units of what it should be."""
  return _over(abs(trial.gradient - trial.difference), trial)


def _over(number, trial):
  # The size is that of the gradient which may itself be off.
  size = trial.size and max(
      trial.size - abs(trial.gradient - trial.difference),
      abs(trial.difference))
  return number / size if size else 0.0


def percent(share):
  """A share in words, to two digits."""
  return ("{:.0f}%" if share > 0.99 else "{:.2g}%").format(100.0 * share)


def scaled(trial):
  """(gradient, difference) along a direction of length one."""
  length = finite_differences.norm(trial.direction)
  return trial.gradient / length, trial.difference / length


def row(trial, label):
  """A trial as a row of the report, its numbers plain."""
  length = finite_differences.norm(trial.direction)
  gradient, difference = scaled(trial)
  return {
      "direction": label + trial.direction.label,
      "gradient": float(gradient), "difference": float(difference),
      "tolerance": float(trial.tolerance / length),
      "off": float(off(trial)),
      "allowed": float(_over(trial.tolerance, trial)),
      "verdict": trial.verdict}
