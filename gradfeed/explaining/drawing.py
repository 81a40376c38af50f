"""Pictures of the ways from x to y: for Graphviz, and as a page of HTML."""

import collections
import html as escaping
import json

from gradfeed.explaining import gradient_paths

#: A picture is one glance: how many boxes it has, and letters in a line.
_MOST_BOXES, _MOST_LETTERS, _MOST_SPECIAL = 36, 34, 8

_PLAIN = (gradient_paths.PASSES, gradient_paths.LOST)

#: The fill, the frame and the meaning of each state.
_LOOKS = collections.OrderedDict([
    (gradient_paths.X, ("#dbeafe", "#1d4ed8", "x")),
    (gradient_paths.Y, ("#dbeafe", "#1d4ed8", "y")),
    (gradient_paths.PASSES, ("#ffffff", "#64748b", "the gradient passes")),
    (gradient_paths.PARTLY, ("#fef3c7", "#b45309",
                             "a part of the gradient ends inside")),
    (gradient_paths.BLOCKS, ("#fee2e2", "#b91c1c", "the gradient ends here")),
    (gradient_paths.LOST, ("#f1f5f9", "#cbd5e1", "no gradient arrives"))
])

#: Sizes in a picture, in pixels.
_WIDTH, _HEIGHT, _ACROSS, _DOWN, _THREAD = 248, 46, 18, 34, 12


class Box:
  """One or more ops in a picture.

  Attributes:
    names: list of the names of the ops.
    state: as in `gradient_paths.Node`.
    title, subtitle: str.
  """

  def __init__(self, nodes, scope):
    self.names = [node.name for node in nodes]
    self.state = nodes[0].state
    if len(nodes) == 1:
      self.title, self.subtitle = nodes[0].type, _middle_cut(nodes[0].name)
    elif scope is None:
      self.title = _cut(" > ".join(node.type for node in nodes))
      self.subtitle = _cut("{} ops, to {}".format(
          len(nodes), "/".join(nodes[-1].name.split("/")[-2:])))
    else:
      types = collections.Counter(node.type for node in nodes)
      self.title = _middle_cut(scope or "{} ops".format(len(nodes)))
      self.subtitle = _cut("{}{}".format(
          "{} ops: ".format(len(nodes)) if scope else "",
          ", ".join("{} {}".format(count, kind)
                    for kind, count in types.most_common())))


class Drawing:
  """The boxes and arrows of a picture.

  Attributes:
    boxes: list of `Box`, from x to y.
    arrows: list of pairs of indices of boxes.
  """

  def __init__(self, paths):
    """Puts ops together until the picture is small enough.

    Args:
      paths: `gradient_paths.GradientPaths`.
    """
    nodes = list(paths.nodes.values())
    depth = max([node.name.count("/") for node in nodes] or [0])
    self._make(paths, _chains(paths))
    while len(self.boxes) > _MOST_BOXES and depth >= 0:
      self._make(paths, _by_scope(paths, depth))
      depth -= 1

  def _make(self, paths, group):
    members = collections.OrderedDict()
    for node in paths.nodes.values():
      members.setdefault(group[node.name], []).append(node)
    index = {key: i for i, key in enumerate(members)}
    self.boxes = [Box(found, key[1] if isinstance(key, tuple) else None)
                  for key, found in members.items()]
    self.arrows = [pair for pair in collections.OrderedDict.fromkeys(
        (index[group[one]], index[group[other]]) for one, other in paths.edges)
                   if pair[0] != pair[1]]


def _by_scope(paths, depth):
  """{name: group}: plain ops of one scope, cut off at a depth, go together.

  Where a way leaves a scope and comes back, that is another group.
  """
  group, special, before = {}, collections.Counter(), _before(paths)
  last = {}  # For each op: {scope: the last group of it that leads there}.
  for name, node in paths.nodes.items():
    special[node.state] += 1
    sources = [one for one in before[name] if one in last]
    led = {}
    for one in sources:
      for scope, count in last[one].items():
        led[scope] = max(count, led.get(scope, 0))
    last[name] = led
    if node.state not in _PLAIN and special[node.state] <= _MOST_SPECIAL:
      group[name] = name
      continue
    scope = (node.state, "/".join(name.split("/")[:-1][:depth]))
    count = max([0] + [
        last[one][scope] + (group[one][:2] != scope) for one in sources
        if scope in last[one]])
    led[scope] = count
    group[name] = scope + (count,)
  return group


def _before(paths):
  """{name: the names of what comes right before it}."""
  before = collections.defaultdict(list)
  for one, other in paths.edges:
    before[other].append(one)
  return before


def _chains(paths):
  """{name: group}: plain ops that follow one another, and nothing else."""
  before, after = _before(paths), collections.Counter(
      one for one, _ in paths.edges)
  group = {}
  for name, node in paths.nodes.items():
    group[name] = name
    if len(before[name]) == 1:
      one, = before[name]
      if (after[one] == 1 and one in group and node.state in _PLAIN and
          paths.nodes[one].state == node.state):
        group[name] = group[one]
  return group


def dot(drawing):
  """`drawing` in the language of Graphviz, str."""
  lines = [
      "digraph gradfeed {",
      '  graph [fontname="Helvetica"];',
      '  node [shape=box, style="filled,rounded", fontname="Helvetica", '
      'fontsize=11];']
  for i, box in enumerate(drawing.boxes):
    fill, frame, _ = _LOOKS[box.state]
    lines.append('  b{} [label={}, fillcolor="{}", color="{}"];'.format(
        i, json.dumps("{}\n{}".format(box.title, box.subtitle)), fill, frame))
  for one, other in drawing.arrows:
    lines.append("  b{} -> b{}{};".format(
        one, other, "" if _flows(drawing.boxes, one, other) else
        ' [style=dashed, color="#94a3b8"]'))
  return "\n".join(lines + ["}"]) + "\n"


def _flows(boxes, one, other):
  """Whether a gradient comes back from one box to the other."""
  return boxes[one].state not in (
      gradient_paths.LOST, gradient_paths.BLOCKS) and (
          boxes[other].state not in (gradient_paths.LOST, gradient_paths.BLOCKS)
      ) or (boxes[one].state == gradient_paths.BLOCKS and boxes[other].state
            in (gradient_paths.PASSES, gradient_paths.PARTLY, gradient_paths.Y))


def _cut(text):
  return text if len(text) <= _MOST_LETTERS else (
      text[:_MOST_LETTERS - 3] + "...")


def _middle_cut(name):
  """A name that is too long, with its beginning and its end."""
  half = (_MOST_LETTERS - 3) // 2
  return name if len(name) <= _MOST_LETTERS else (
      name[:half] + "..." + name[-half:])


def _layers(drawing):
  """Lists of boxes and threads from top to bottom, and the arrows between.

  An arrow over several layers is a thread, with a place of its own in each.

  Returns:
    (list of lists of keys, list of (key, key, arrow)); a key is the index of a
    box, or (arrow, layer) for a place of a thread.
  """
  # Scopes may point at each other: arrows that go back have no say.
  forward = [pair for pair in drawing.arrows if pair[0] < pair[1]]
  level = [0] * len(drawing.boxes)
  for one, other in sorted(forward):
    level[other] = max(level[other], level[one] + 1)
  layers = [[] for _ in range(max(level or [0]) + 1)]
  for i, depth in enumerate(level):
    layers[depth].append(i)
  pieces = []
  for one, other in forward:
    before = one
    for depth in range(level[one] + 1, level[other]):
      layers[depth].append(((one, other), depth))
      pieces.append((before, ((one, other), depth), (one, other)))
      before = (one, other), depth
    pieces.append((before, other, (one, other)))
  _untangle(layers, pieces)
  return layers, pieces


def _untangle(layers, pieces):
  """Puts each layer in the order of what it hangs together with."""
  beside = collections.defaultdict(list)
  for one, other, _ in pieces:
    beside[one].append(other)
    beside[other].append(one)
  for sweep in range(4):
    order = layers if sweep % 2 == 0 else layers[::-1]
    for fixed, layer in zip(order, order[1:]):
      place = {key: i for i, key in enumerate(fixed)}

      def middle(key, place=place, layer=layer):
        places = [place[other] for other in beside[key] if other in place]
        return sum(places) / len(places) if places else layer.index(key)

      layer[:] = sorted(layer, key=middle)


def svg(drawing):
  """`drawing` as an SVG element, str."""
  layers, pieces = _layers(drawing)

  def width(key):
    return _THREAD if isinstance(key, tuple) else _WIDTH

  total = max(sum(width(key) + _ACROSS for key in layer) for layer in layers)
  left, top = {}, {}
  for depth, layer in enumerate(layers):
    at = (total - sum(width(key) + _ACROSS for key in layer)) / 2.0
    for key in layer:
      left[key], top[key] = at + _ACROSS / 2.0, depth * (_HEIGHT + _DOWN) + 4
      at += width(key) + _ACROSS
  high = len(layers) * (_HEIGHT + _DOWN)
  parts = ['<svg xmlns="http://www.w3.org/2000/svg" width="{0:.0f}" '
           'height="{1:.0f}" viewBox="0 0 {0:.0f} {1:.0f}" role="img">'.format(
               total, high)]
  for one, other, arrow in pieces:
    begin = (left[one] + width(one) / 2.0, top[one] + _HEIGHT)
    end = (left[other] + width(other) / 2.0, top[other])
    middle = (begin[1] + end[1]) / 2.0
    tail = "" if not isinstance(other, tuple) else " V{:.0f}".format(
        top[other] + _HEIGHT)
    flows = _flows(drawing.boxes, *arrow)
    parts.append(
        '<path d="M{0:.0f},{1:.0f} C{0:.0f},{2:.0f} {3:.0f},{2:.0f} {3:.0f},'
        '{4:.0f}{5}" fill="none" stroke="{6}" stroke-width="1.5"{7}/>'.format(
            begin[0], begin[1], middle, end[0], end[1], tail,
            "#334155" if flows else "#94a3b8",
            "" if flows else ' stroke-dasharray="4 3"'))
    if not isinstance(other, tuple):
      parts.append('<path d="M{0:.0f},{1:.0f} l-4,-7 h8 z" fill="{2}"/>'.format(
          end[0], end[1], "#334155" if flows else "#94a3b8"))
  for i, box in enumerate(drawing.boxes):
    parts.append(_box(box, left[i], top[i]))
  return "\n".join(parts + ["</svg>"])


def _box(box, left, top):
  fill, frame, meaning = _LOOKS[box.state]
  names = ", ".join(box.names[:20]) + (", ..." if len(box.names) > 20 else "")
  return (
      '<g><title>{}</title><rect x="{:.0f}" y="{:.0f}" width="{}" '
      'height="{}" rx="6" fill="{}" stroke="{}" stroke-width="{}"/>'
      '<text x="{x:.0f}" y="{:.0f}" text-anchor="middle" '
      'font-weight="600">{}</text>'
      '<text x="{x:.0f}" y="{:.0f}" text-anchor="middle" fill="#475569" '
      'font-size="11">{}</text></g>').format(
          escaping.escape("{} ({})".format(names, meaning)), left, top, _WIDTH,
          _HEIGHT, fill, frame, 2 if box.state not in _PLAIN else 1, top + 19,
          escaping.escape(box.title), top + 36,
          escaping.escape(box.subtitle), x=left + _WIDTH / 2.0)


_STYLE = """\
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
svg { display: block; margin: 0 auto; font-size: 13px; }
.key span { display: inline-block; border: 1px solid; border-radius: 4px;
  padding: 0 .5em; margin: 0 .5em .5em 0; font-size: .85em; }
pre { overflow: auto; background: #f8fafc; padding: 1em; font-size: 12px; }
"""


def html(page, drawing):
  """A document of `page` and its picture, which needs no other file.

  Args:
    page: `findings.FindingsReport`.
    drawing: `Drawing`.

  Returns:
    str.
  """
  worst = page.findings[0].severity if page.findings else "note"
  quote = escaping.escape
  items = "\n".join(
      '<li class="{}"><strong>{}</strong>{}</li>'.format(
          finding.severity, quote(finding.what), "".join(
              "<p>{}</p>".format(quote(text))
              for text in (finding.why, finding.fix) if text))
      for finding in page.findings)
  states = {box.state for box in drawing.boxes}
  key = "".join(
      '<span style="background:{};border-color:{}">{}</span>'.format(*look)
      for state, look in _LOOKS.items() if state in states)
  return "\n".join([
      "<!DOCTYPE html>", '<html lang="en"><head><meta charset="utf-8">',
      "<title>{}</title>".format(quote(page.verdict)),
      "<style>{}</style></head><body>".format(_STYLE),
      '<h1 class="{}">{}: {}</h1>'.format(
          "good" if worst == "note" else worst, quote(page.verdict),
          quote(page.summary)),
      "<ul>", items, "</ul>", "<h2>From x to y</h2>",
      '<p class="key">{}</p>'.format(key),
      '<div class="picture">', svg(drawing), "</div>",
      "<details><summary>All of it as JSON</summary><pre>{}</pre></details>"
      .format(quote(page.to_json())), "</body></html>"]) + "\n"
