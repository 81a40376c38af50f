"""Writes a report and its picture as a page of HTML that needs no other file.
"""

from gradfeed.explaining import drawing
from gradfeed.explaining import labels

#: The look of a page.
#: The look of a page.
STYLE = """\
body { font: 15px/1.5 system-ui, Helvetica, Arial, sans-serif; color: #0f172a;
  margin: 2em auto; max-width: 60em; padding: 0 1em; }
h1 { font-size: 1.3em; padding: .6em .8em; border-radius: 8px; }
h1.good { background: #dcfce7; } h1.warning { background: #fef3c7; }
h1.bad { background: #fee2e2; }
ul { list-style: none; padding: 0; }
li { border-left: 4px solid #cbd5e1; padding: .2em .8em; margin: .6em 0; }
li.warning { border-color: #f59e0b; } li.bad { border-color: #dc2626; }
li p { margin: .2em 0; color: #475569; overflow-wrap: anywhere; }
.picture { overflow: auto; border: 1px solid #e2e8f0; border-radius: 8px;
  padding: 1em; }
svg { display: block; margin: 0 auto; }
.key span { display: inline-block; border: 1px solid; border-radius: 4px;
  padding: 0 .5em; margin: 0 .5em .5em 0; font-size: .85em; }
pre { overflow: auto; background: #f8fafc; padding: 1em; font-size: 12px; }
"""


def html(page, picture=None):
  """A document of `page` and its picture, which needs no other file.

  Args:
    page: `findings.FindingsReport`.
    picture: `drawing.Drawing`, or None for a page without one.

  Returns:
    str.
  """
  return document(page, _shown(picture) if picture else [])


def document(page, body, style=""):
  """A document of a report: verdict, findings, `body`, all of it as JSON.

  Args:
    page: `findings.FindingsReport`.
    body: list of str, the lines of HTML between the findings and the JSON.
    style: str, rules of CSS besides `STYLE`.

  Returns:
    str.
  """
  worst = page.findings[0].severity if page.findings else "note"
  quote = labels.quoted
  items = "\n".join(
      '<li class="{}"><strong>{}</strong>{}</li>'.format(
          finding.severity, quote(finding.what), "".join(
              "<p>{}</p>".format(quote(text))
              for text in (finding.why, finding.fix) if text))
      for finding in page.findings)
  return "\n".join([
      "<!DOCTYPE html>", '<html lang="en"><head><meta charset="utf-8">',
      "<title>{}</title>".format(quote(page.verdict)),
      "<style>{}{}</style></head><body>".format(STYLE, style),
      '<h1 class="{}">{}: {}</h1>'.format(
          "good" if worst == "note" else worst, quote(page.verdict),
          quote(page.summary)),
      "<ul>", items, "</ul>"] + body + [
      "<details><summary>All of it as JSON</summary><pre>{}</pre></details>"
      .format(quote(page.to_json())), "</body></html>"]) + "\n"


def _shown(picture):
  """The lines of a page that show a picture and the key to it."""
  states = {box.state for box in picture.boxes}
  key = "".join(
      '<span style="background:{};border-color:{}">{}</span>'.format(*look)
      for state, look in drawing.LOOKS.items() if state in states)
  return ["<h2>From x to y</h2>", '<p class="key">{}</p>'.format(key),
          '<div class="picture">', drawing.svg(picture), "</div>"]
