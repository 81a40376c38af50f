"""Draws the paths from x to y: for Graphviz, and as SVG."""

import collections

from gradfeed import errors
from gradfeed.explaining import gradient_paths
from gradfeed.explaining import labels

#: The most boxes of a picture, and boxes of a state that are drawn for one op
#: alone.
_MOST_BOXES, _MOST_SPECIAL = 36, 8

#: The states of ops that may be drawn together.
_PLAIN = (gradient_paths.PASSES, gradient_paths.LOST)

#: The fill, the frame and the meaning of each state.
LOOKS = collections.OrderedDict([
    (gradient_paths.X, ("#dbeafe", "#1d4ed8", "x")),
    (gradient_paths.Y, ("#dbeafe", "#1d4ed8", "y")),
    (gradient_paths.PASSES, ("#ffffff", "#64748b", "the gradient passes")),
    (gradient_paths.PARTLY, ("#fef3c7", "#b45309",
                             "a part of the gradient ends inside")),
    (gradient_paths.BLOCKS, ("#fee2e2", "#b91c1c", "the gradient ends here")),
    (gradient_paths.LOST, ("#f1f5f9", "#cbd5e1", "no gradient arrives"))
])

#: Sizes in pixels: height of a box, gaps between boxes across and down, width
#: that an arrow takes where it crosses a layer, and how far one stands out that
#: goes back.
_HEIGHT, _ACROSS, _DOWN, _THREAD, _BACK = 46, 18, 34, 12, 36
_WIDTH = labels.WIDTH


class Box:
  """One or more ops in a picture.

  Attributes:
    names: list of the names of the ops.
    state: as in `gradient_paths.Node`.
    title, subtitle: str.
  """

  def __init__(self, nodes, scope):
    """Writes title and subtitle.

    Args:
      nodes: list of `gradient_paths.Node`, of one state.
      scope: str, the name scope that they are in; None if they are a chain.
    """
    self.names = [node.name for node in nodes]
    self.state = nodes[0].state
    if len(nodes) == 1:
      self.title = labels.cut(nodes[0].type)
      self.subtitle = labels.middle_cut(nodes[0].name)
    elif scope is None:
      self.title = labels.cut(" > ".join(node.type for node in nodes))
      self.subtitle = labels.cut("{} ops, to {}".format(
          len(nodes), "/".join(nodes[-1].name.split("/")[-2:])))
    else:
      types = collections.Counter(node.type for node in nodes)
      self.title = labels.middle_cut(scope or "{} ops".format(len(nodes)))
      self.subtitle = labels.cut("{}{}".format(
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
    """Groups ops into boxes until the picture is small enough.

    Args:
      paths: `gradient_paths.GradientPaths`.
    """
    nodes = list(paths.nodes.values())
    depth = max([node.name.count("/") for node in nodes] or [0])
    self._make(paths, _group_chains(paths))
    while len(self.boxes) > _MOST_BOXES and depth >= 0:
      self._make(paths, _group_by_scope(paths, depth))
      depth -= 1

  def _make(self, paths, group):
    """Sets the boxes and arrows for a dict from name of op to its group."""
    members = collections.OrderedDict()
    for node in paths.nodes.values():
      members.setdefault(group[node.name], []).append(node)
    index = {key: i for i, key in enumerate(members)}
    self.boxes = [Box(nodes, key[1] if isinstance(key, tuple) else None)
                  for key, nodes in members.items()]
    self.arrows = [pair for pair in collections.OrderedDict.fromkeys(
        (index[group[source]], index[group[target]])
        for source, target in paths.edges)
                   if pair[0] != pair[1]]


def _group_by_scope(paths, depth):
  """Groups ops of one state by name scope.

  Where a path leaves a scope and comes back, that is another group. Ops in
  a state that is not in `_PLAIN` stay alone, the first few of each state.

  Args:
    paths: `gradient_paths.GradientPaths`.
    depth: int, how many parts of the scope's name count.

  Returns:
    dict from name of op to its group: the name, or (state, scope, number).
  """
  group, counts, before = {}, collections.Counter(), _predecessors(paths)
  last = {}  # For each op: {scope: number of its last group before the op}.
  for name, node in paths.nodes.items():
    counts[node.state] += 1
    sources = [source for source in before[name] if source in last]
    last_here = {}
    for source in sources:
      for scope, count in last[source].items():
        last_here[scope] = max(count, last_here.get(scope, 0))
    last[name] = last_here
    if node.state not in _PLAIN and counts[node.state] <= _MOST_SPECIAL:
      group[name] = name
      continue
    scope = (node.state, "/".join(name.split("/")[:-1][:depth]))
    count = max([0] + [
        last[source][scope] + (group[source][:2] != scope) for source in sources
        if scope in last[source]])
    last_here[scope] = count
    group[name] = scope + (count,)
  return group


def _predecessors(paths):
  """dict from name of op to the names of the ops that it reads."""
  before = collections.defaultdict(list)
  for source, target in paths.edges:
    before[target].append(source)
  return before


def _group_chains(paths):
  """Groups ops of one state that follow one another without branches.

  Args:
    paths: `gradient_paths.GradientPaths`.

  Returns:
    dict from name of op to its group, the name of the first op of a chain.
  """
  before = _predecessors(paths)
  after = collections.Counter(source for source, _ in paths.edges)
  group = {}
  for name, node in paths.nodes.items():
    group[name] = name
    if len(before[name]) == 1:
      source, = before[name]
      if (after[source] == 1 and source in group and node.state in _PLAIN and
          paths.nodes[source].state == node.state):
        group[name] = group[source]
  return group


def dot(drawing):
  """str: `drawing` in the language of Graphviz."""
  lines = [
      "digraph gradfeed {",
      '  graph [fontname="Helvetica"];',
      '  node [shape=box, style="filled,rounded", fontname="Helvetica", '
      'fontsize=11];']
  for i, box in enumerate(drawing.boxes):
    fill, frame, _ = LOOKS[box.state]
    lines.append('  b{} [label={}, fillcolor="{}", color="{}"];'.format(
        i, _quoted_for_dot(box), fill, frame))
  for source, target in drawing.arrows:
    lines.append("  b{} -> b{}{};".format(
        source, target, "" if _flows(drawing.boxes, source, target) else
        ' [style=dashed, color="#94a3b8"]'))
  return "\n".join(lines + ["}"]) + "\n"


def _quoted_for_dot(box):
  """The two lines of a box as a string in the language of Graphviz.

  Only quotation marks and backslashes mean something in it.
  """
  return '"{}"'.format("\\n".join(
      errors.printable(line).replace("\\", "\\\\").replace('"', '\\"')
      for line in (box.title, box.subtitle)))


def _flows(boxes, source, target):
  """Whether a gradient comes back from box `target` to box `source`."""
  source, target = boxes[source].state, boxes[target].state
  ending = (gradient_paths.LOST, gradient_paths.BLOCKS)
  if source == gradient_paths.BLOCKS:
    return target in (gradient_paths.PASSES, gradient_paths.PARTLY,
                      gradient_paths.Y)
  return source not in ending and target not in ending


def _layers(drawing):
  """Distributes boxes over layers from top to bottom.

  An arrow that crosses layers is divided into pieces, and takes a position of
  its own in each layer that it crosses.

  Args:
    drawing: `Drawing`.

  Returns:
    (layers: list of lists of keys; pieces: list of (key, key, arrow)). A key is
    the index of a box, or (arrow, layer) where an arrow crosses a layer.
  """
  # Scopes may point at each other: arrows that go back are left out.
  forward = [pair for pair in drawing.arrows if pair[0] < pair[1]]
  level = [0] * len(drawing.boxes)
  for source, target in sorted(forward):
    level[target] = max(level[target], level[source] + 1)
  layers = [[] for _ in range(max(level or [0]) + 1)]
  for i, depth in enumerate(level):
    layers[depth].append(i)
  pieces = []
  for source, target in forward:
    before = source
    for depth in range(level[source] + 1, level[target]):
      layers[depth].append(((source, target), depth))
      pieces.append((before, ((source, target), depth), (source, target)))
      before = (source, target), depth
    pieces.append((before, target, (source, target)))
  _order_layers(layers, pieces)
  return layers, pieces


def _order_layers(layers, pieces):
  """Orders each layer by the mean position of its neighbours, in place."""
  beside = collections.defaultdict(list)
  for source, target, _ in pieces:
    beside[source].append(target)
    beside[target].append(source)
  for sweep in range(4):
    order = layers if sweep % 2 == 0 else layers[::-1]
    for fixed, layer in zip(order, order[1:]):
      position = {key: i for i, key in enumerate(fixed)}

      def middle(key, position=position, layer=layer):
        positions = [position[other] for other in beside[key]
                     if other in position]
        return sum(positions) / len(positions) if positions else (
            layer.index(key))

      layer[:] = sorted(layer, key=middle)


def svg(drawing):
  """str: `drawing` as an SVG element."""
  layers, pieces = _layers(drawing)
  width, left, top = _corners(layers)
  back = [pair for pair in drawing.arrows if pair[0] > pair[1]]
  parts = ['<svg xmlns="http://www.w3.org/2000/svg" width="{0:.0f}" '
           'height="{1:.0f}" viewBox="0 0 {0:.0f} {1:.0f}" role="img" '
           'font-family="Helvetica, Arial, sans-serif" font-size="{2}">'.format(
               width + (_BACK if back else 0),
               len(layers) * (_HEIGHT + _DOWN), labels.TITLE)]
  for source, target, arrow in pieces:
    begin = left[source] + _width(source) / 2.0, top[source] + _HEIGHT
    end = left[target] + _width(target) / 2.0, top[target]
    parts += _arrow(begin, end, not isinstance(target, tuple),
                    _flows(drawing.boxes, *arrow))
  for source, target in back:
    parts += _arrow_back(
        (left[source] + _WIDTH, top[source] + _HEIGHT / 2.0),
        (left[target] + _WIDTH, top[target] + _HEIGHT / 2.0),
        _flows(drawing.boxes, source, target))
  for i, box in enumerate(drawing.boxes):
    parts.append(_box(box, left[i], top[i]))
  return "\n".join(parts + ["</svg>"])


def _width(key):
  """The pixels that a key of a layer takes."""
  return _THREAD if isinstance(key, tuple) else _WIDTH


def _corners(layers):
  """(width of the picture, dict from key to its left, dict to its top)."""
  widths = [sum(_width(key) + _ACROSS for key in layer) for layer in layers]
  left, top = {}, {}
  for depth, layer in enumerate(layers):
    x = (max(widths) - widths[depth]) / 2.0
    for key in layer:
      left[key], top[key] = x + _ACROSS / 2.0, depth * (_HEIGHT + _DOWN) + 4
      x += _width(key) + _ACROSS
  return max(widths), left, top


def _arrow(begin, end, is_at_box, flows):
  """A piece of an arrow as SVG.

  Args:
    begin: (x, y).
    end: (x, y).
    is_at_box: bool, whether it ends at a box, with a head; if not, it goes on
      through the layer.
    flows: bool, whether a gradient passes.

  Returns:
    list of str.
  """
  colour = "#334155" if flows else "#94a3b8"
  middle = (begin[1] + end[1]) / 2.0
  tail = "" if is_at_box else " V{:.0f}".format(end[1] + _HEIGHT)
  parts = [
      '<path d="M{0:.0f},{1:.0f} C{0:.0f},{2:.0f} {3:.0f},{2:.0f} {3:.0f},'
      '{4:.0f}{5}" fill="none" stroke="{6}" stroke-width="1.5"{7}/>'.format(
          begin[0], begin[1], middle, end[0], end[1], tail, colour,
          "" if flows else ' stroke-dasharray="4 3"')]
  if is_at_box:
    parts.append('<path d="M{0:.0f},{1:.0f} l-4,-7 h8 z" fill="{2}"/>'.format(
        end[0], end[1], colour))
  return parts


def _arrow_back(begin, end, flows):
  """An arrow of a loop from a box to one above it, at their right sides.

  Args:
    begin: (x, y).
    end: (x, y).
    flows: bool, whether a gradient passes.

  Returns:
    list of str, SVG.
  """
  colour = "#334155" if flows else "#94a3b8"
  side = max(begin[0], end[0]) + _BACK
  return [
      '<path d="M{:.0f},{:.0f} C{side:.0f},{:.0f} {side:.0f},{:.0f} '
      '{:.0f},{:.0f}" fill="none" stroke="{}" stroke-width="1.5"{}/>'.format(
          begin[0], begin[1], begin[1], end[1], end[0], end[1], colour,
          "" if flows else ' stroke-dasharray="4 3"', side=side),
      '<path d="M{:.0f},{:.0f} l7,-4 v8 z" fill="{}"/>'.format(
          end[0], end[1], colour)]


def _box(box, left, top):
  """A box as SVG, str."""
  fill, frame, meaning = LOOKS[box.state]
  names = ", ".join(box.names[:20]) + (", ..." if len(box.names) > 20 else "")
  return (
      '<g><title>{}</title><rect x="{:.0f}" y="{:.0f}" width="{}" '
      'height="{}" rx="6" fill="{}" stroke="{}" stroke-width="{}"/>'
      '<text x="{x:.0f}" y="{:.0f}" text-anchor="middle" '
      'font-weight="600">{}</text>'
      '<text x="{x:.0f}" y="{:.0f}" text-anchor="middle" fill="#475569" '
      'font-size="{size}">{}</text></g>').format(
          labels.quoted("{} ({})".format(names, meaning)), left, top, _WIDTH,
          _HEIGHT, fill, frame, 2 if box.state not in _PLAIN else 1, top + 19,
          labels.quoted(box.title), top + 36,
          labels.quoted(box.subtitle), x=left + _WIDTH / 2.0,
          size=labels.SUBTITLE)
