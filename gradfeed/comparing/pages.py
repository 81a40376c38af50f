"""The report of a comparison as a page of HTML that needs no other file."""

from gradfeed.explaining import labels
from gradfeed.explaining import pages

_TABLE = """\
table { border-collapse: collapse; font-size: 13px; width: 100%; }
td, th { text-align: left; padding: .2em .6em; border-top: 1px solid #e2e8f0; }
tr.bad td { background: #fee2e2; }
"""

_HEIGHT, _DOWN, _WIDTH = 34, 20, 420
_GOOD, _BAD = ("#dcfce7", "#15803d"), ("#fee2e2", "#b91c1c")


def html(report):
  """A document of a `reports.Comparison`: verdict, picture, table, JSON."""
  quote = labels.quoted
  return pages.document(report, [
      "<h2>From x to y</h2>", '<div class="picture">', _svg(report), "</div>",
      "<h2>Numbers</h2>",
      "<table><tr><th>what</th><th>name</th><th>error</th><th>allowed</th>"
      "<th>point</th><th>element</th></tr>"] + [
          '<tr class="{}"><td>{}</td><td>{}</td><td>{:.3g}</td><td>{:.3g}</td>'
          "<td>{}</td><td>{}</td></tr>".format(
              "good" if row["agrees"] else "bad", quote(row["kind"]),
              quote(row["name"]), row["error"], row["allowed"], row["point"],
              row["index"]) for row in report.rows] + ["</table>"], _TABLE)


def _svg(report):
  """A box for each layer, x at the top: value at the left, gradient right."""
  by_kind = {}
  for row in report.rows:
    by_kind.setdefault(row["kind"], {})[row["name"]] = row["agrees"]
  gradients = by_kind.get("gradient", {})
  boxes = [("x", None, all(gradients.values()))]
  for name in report.layers:
    boxes.append((name, by_kind.get("layer", {}).get(name),
                  by_kind.get("layer gradient", {}).get(name)))
  boxes.append(("y", all(by_kind.get("value", {}).values()), None))
  parts = ['<svg xmlns="http://www.w3.org/2000/svg" width="{0}" height="{1}" '
           'viewBox="0 0 {0} {1}" role="img" font-family="Helvetica, Arial, '
           'sans-serif" font-size="12">'.format(
               _WIDTH + 4, len(boxes) * (_HEIGHT + _DOWN))]
  for i, (name, value, gradient) in enumerate(boxes):
    top = 2 + i * (_HEIGHT + _DOWN)
    bad = value is False or gradient is False
    fill, frame = _BAD if bad else _GOOD
    text = ", ".join(
        "{} {}".format(what, "agrees" if state else "differs")
        for what, state in (("value", value), ("gradient", gradient))
        if state is not None)
    parts.append(
        '<rect x="2" y="{}" width="{}" height="{}" rx="6" fill="{}" '
        'stroke="{}"/><text x="12" y="{}">{}</text><text x="{}" y="{}" '
        'text-anchor="end">{}</text>'.format(
            top, _WIDTH, _HEIGHT, fill, frame, top + 21,
            labels.quoted(labels.middle_cut(name)), _WIDTH - 8, top + 21, text))
    if i + 1 < len(boxes):
      parts.append('<path d="M{0},{1} v{2}" stroke="#334155"/>'.format(
          _WIDTH // 2, top + _HEIGHT, _DOWN))
  return "\n".join(parts + ["</svg>"])
