"""Findings about a derivative, as sentences and as data; reports of them."""

import collections
import json
import textwrap

from gradfeed import errors

#: The severity of a finding. BAD: the derivative is wrong, or there is none.
#: WARNING: it may not be what was meant. NOTE: it is good to know.
BAD, WARNING, NOTE = "bad", "warning", "note"

_MARKS = {BAD: "!!", WARNING: "! ", NOTE: "- "}

#: The columns and lines of a report, which fits one screen.
_WIDTH = 79
_MOST_LINES = 40

#: How many findings of one kind and severity a report prints; the last of them
#: says how many more there are.
_MOST_OF_A_KIND = 3


class Finding:
  """One thing that was found.

  It says something about a derivative or the ops that it is computed by: that
  an op passes no gradient, that rows depend on each other, what has to be fed.

  Attributes:
    kind: str, what sort of finding it is, for programs: "blocked", "coupled"...
    severity: "bad", "warning" or "note".
    what: str, a sentence that names the op or tensor.
    why: str, a sentence; or "".
    fix: str, a sentence with the next step; or "".
    names: list of the names of the ops and tensors that it is about.
    details: dict of more that JSON can hold.
  """

  def __init__(self, kind, severity, what, why="", fix="", names=(), **details):
    self.kind = kind
    self.severity = severity
    self.what = what
    self.why = why
    self.fix = fix
    self.names = list(names)
    self.details = details

  def to_dict(self):
    """What is known of it, for programs.

    Returns:
      dict of what JSON can hold: the attributes, and all `details`.
    """
    return dict(self.details, kind=self.kind, severity=self.severity,
                what=self.what, why=self.why, fix=self.fix, names=self.names)

  def __repr__(self):
    return "<gradfeed.Finding {}: {}>".format(
        self.kind, errors.printable(self.what))


class FindingsReport:
  """A report of one screen: a verdict, and the findings behind it.

  `str` of it is the screen; findings for which it has no room are named by
  their kind at the end, and all are in `findings`.

  Attributes:
    verdict: str, one word or two.
    summary: str, a sentence that says what the verdict means.
    findings: list of `Finding`, the worst first.
  """

  def __init__(self, verdict, summary, findings):
    self.verdict = verdict
    self.summary = summary
    order = [BAD, WARNING, NOTE]
    self.findings = sorted(findings, key=lambda f: order.index(f.severity))

  @property
  def is_bad(self):
    """bool, whether the derivative is wrong, or there is none."""
    return any(finding.severity == BAD for finding in self.findings)

  def to_dict(self):
    """The report as data, for programs.

    Returns:
      dict of what JSON can hold: verdict, summary and the list of findings.
    """
    return {"verdict": self.verdict, "summary": self.summary,
            "findings": [finding.to_dict() for finding in self.findings]}

  def to_json(self):
    """The report as JSON, for programs.

    Returns:
      str, the JSON of `to_dict`.
    """
    return json.dumps(self.to_dict(), indent=2, sort_keys=True)

  def __str__(self):
    head = _wrapped("{}: {}".format(self.verdict, self.summary), "", "  ")
    blocks, omitted_kinds = [], []
    for finding, more in self._printed():
      blocks.append(_block(finding, more))
      if len(head) + 1 + sum(map(len, blocks)) > _MOST_LINES - 2:
        blocks.pop()
        omitted_kinds.append(finding.kind)
    lines = head + ([""] if blocks else []) + sum(blocks, [])
    if omitted_kinds:
      lines += _wrapped("and more, which is in `.findings`: {}.".format(
          ", ".join(dict.fromkeys(omitted_kinds))), "   ", "   ")
    return "\n".join(lines)

  def _printed(self):
    """Yields the findings that are printed, a few of each kind.

    Yields:
      (`Finding`, list of those of its kind that are not printed; empty for all
      but the last of a kind).
    """
    by_kind = collections.OrderedDict()
    for finding in self.findings:
      by_kind.setdefault((finding.kind, finding.severity), []).append(finding)
    for of_a_kind in by_kind.values():
      most = len(of_a_kind)
      if most > _MOST_OF_A_KIND + 1:  # One more takes no more room.
        most = _MOST_OF_A_KIND
      for finding in of_a_kind[:most]:
        is_last = finding is of_a_kind[most - 1]
        yield finding, of_a_kind[most:] if is_last else []

  __repr__ = __str__


def _block(finding, more):
  """The lines of a report that say what one finding says.

  Args:
    finding: `Finding`.
    more: list of `Finding` of its kind, of which only the names are given.

  Returns:
    list of str.
  """
  text = " ".join(filter(None, [finding.what, finding.why, finding.fix]))
  if more:
    text += " And {} more of this kind: {}{}.".format(
        len(more), ", ".join(repr(other.names[0]) for other in more[:3]
                             if other.names),
        ", ..." if len(more) > 3 else "")
  return _wrapped(text, _MARKS[finding.severity] + " ", "   ")


def _wrapped(text, first, rest):
  """Wraps a text to lines that begin with `first`, and later with `rest`."""
  return textwrap.wrap(errors.printable(text), _WIDTH, initial_indent=first,
                       subsequent_indent=rest, break_long_words=False,
                       break_on_hyphens=False)
