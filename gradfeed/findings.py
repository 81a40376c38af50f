"""What is found out about a derivative: sentences, and data for programs."""

import collections
import json
import textwrap

#: How much a finding weighs: it makes the number wrong or missing; it may not
#: be what was meant; it is good to know.
BAD, WARNING, NOTE = "bad", "warning", "note"

_MARKS = {BAD: "!!", WARNING: "! ", NOTE: "- "}

_WIDTH = 79

#: A page is one screen: how many lines it has, how many findings of one kind.
_MOST_LINES, _MOST_ALIKE = 40, 3


class Finding:
  """One thing that was found.

  Attributes:
    kind: str, which it is, for programs: "blocked", "coupled", ...
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
    return "<gradfeed.Finding {}: {}>".format(self.kind, self.what)


class FindingsReport:
  """A report of one screen: a verdict, and the findings behind it.

  Attributes:
    verdict: str, one word or two.
    summary: str, the sentence that goes with it.
    findings: list of `Finding`, the worst first.
  """

  def __init__(self, verdict, summary, findings):
    self.verdict = verdict
    self.summary = summary
    order = [BAD, WARNING, NOTE]
    self.findings = sorted(findings, key=lambda f: order.index(f.severity))

  @property
  def is_bad(self):
    """bool, whether the number is wrong, or there is none."""
    return any(finding.severity == BAD for finding in self.findings)

  def to_dict(self):
    """All of the page, for programs.

    Returns:
      dict of what JSON can hold: verdict, summary and the list of findings.
    """
    return {"verdict": self.verdict, "summary": self.summary,
            "findings": [finding.to_dict() for finding in self.findings]}

  def to_json(self):
    """All of the page as text, for programs.

    Returns:
      str, the JSON of `to_dict`.
    """
    return json.dumps(self.to_dict(), indent=2, sort_keys=True)

  def __str__(self):
    head = _wrapped("{}: {}".format(self.verdict, self.summary), "", "  ")
    blocks, left = [], []
    for finding, more in self._shortened():
      blocks.append(_block(finding, more))
      if len(head) + 1 + sum(map(len, blocks)) > _MOST_LINES - 2:
        blocks.pop()
        left.append(finding.kind)
    lines = head + ([""] if blocks else []) + sum(blocks, [])
    if left:
      lines += _wrapped("and more, which is in `.findings`: {}.".format(
          ", ".join(dict.fromkeys(left))), "   ", "   ")
    return "\n".join(lines)

  def _shortened(self):
    """(finding, those that are left out for its sake), a few of each kind."""
    shown = collections.OrderedDict()
    for finding in self.findings:
      shown.setdefault((finding.kind, finding.severity), []).append(finding)
    for alike in shown.values():
      most = _MOST_ALIKE if len(alike) > _MOST_ALIKE + 1 else len(alike)
      for finding in alike[:most]:
        yield finding, alike[most:] if finding is alike[most - 1] else []

  __repr__ = __str__


def _block(finding, more):
  """The lines of one finding."""
  text = " ".join(filter(None, [finding.what, finding.why, finding.fix]))
  if more:
    text += " And {} more of this kind: {}{}.".format(
        len(more), ", ".join(repr(other.names[0]) for other in more[:3]
                             if other.names),
        ", ..." if len(more) > 3 else "")
  return _wrapped(text, _MARKS[finding.severity] + " ", "   ")


def _wrapped(text, first, rest):
  return textwrap.wrap(text, _WIDTH, initial_indent=first,
                       subsequent_indent=rest, break_long_words=False,
                       break_on_hyphens=False)
