"""Pictures of the ways from x to y."""

from html import parser
import re
import xml.etree.ElementTree as xml

import tensorflow.compat.v1 as tf

import gradfeed as gf
from gradfeed.explaining import drawing
from tests.testing import flows
from tests.testing import graphs


class _Reader(parser.HTMLParser):
  """Collects the tags of a document, and checks that each is closed."""

  def __init__(self):
    super().__init__()
    self.open, self.attributes = [], []

  def handle_starttag(self, tag, attrs):
    self.attributes.extend((tag,) + pair for pair in attrs)
    if tag != "meta":
      self.open.append(tag)

  def handle_startendtag(self, tag, attrs):
    self.attributes.extend((tag,) + pair for pair in attrs)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag, tag


class _Layered(graphs.GraphTest):

  def page(self, blocks=40, blocked=True):
    """A network of `blocks` scopes with a way around each."""
    h = x = tf.placeholder(tf.float64, [None, 2], name="x")
    for i in range(blocks):
      with tf.name_scope("stage{}/block{}".format(i // 10, i)):
        side = tf.tanh(tf.sin(h) * 2.0)
        h = h + tf.cos(side)
    if blocked:
      h += tf.round(h, name="culprit")
    return gf.explain(tf.reduce_sum(h, 1, name="y"), x)


class DotTest(_Layered):

  def test_chains_are_one_box(self):
    page = self.page(2)
    text = page.to_dot()
    self.assertTrue(text.startswith("digraph gradfeed {"))
    self.assertIn("Sin > Mul > Tanh > Cos", text)
    self.assertEqual(text.count("[label="), 8)
    # x - block - add - block - add - round - add - y, with the ways around.
    self.assertEqual(text.count(" -> "), 10)
    blocked, = re.findall(r"(b\d+) \[label=\"Round", text)
    self.assertRegex(text, r"b\d+ -> {} \[style=dashed".format(blocked))
    self.assertIn('{} [label="Round\\nculprit", fillcolor="#fee2e2"'.format(
        blocked), text)

  def test_scopes_are_one_box_in_a_large_graph(self):
    page = self.page()
    text = page.to_dot()
    self.assertIn('label="stage0\\n', text)
    self.assertIn('label="stage3\\n', text)
    self.assertIn('label="Round\\nculprit"', text)
    self.assertLessEqual(text.count("[label="), 36)

  def test_ways_that_leave_a_scope_and_come_back(self):
    h = x = tf.placeholder(tf.float64, [None, 2], name="x")
    for i in range(40):
      with tf.name_scope("{}/{}/".format(
          "ab"[i // 20 % 2] if i < 39 else "a", "ab"[i % 2])):
        h = h * tf.sin(h)
    picture = drawing.Drawing(
        gf.explain(h, x)._paths)  # pylint: disable=protected-access
    self.assertTrue(all(box < other for box, other in picture.arrows))

  def test_quotes_in_names(self):
    x = tf.placeholder(tf.float64, [], name="x")
    text = gf.explain(x * x, x).to_dot()
    self.assertEqual(text.count('"') % 2, 0)


class HtmlTest(_Layered):

  def test_needs_nothing_else(self):
    reader = _Reader()
    text = self.page().to_html()
    reader.feed(text)
    self.assertEmpty(reader.open)
    self.assertFalse([attribute for attribute in reader.attributes
                      if attribute[1] in ("src", "href")])
    self.assertNotIn("<script", text)
    self.assertNotIn("@import", text)
    self.assertIn("partly differentiable", text)
    self.assertIn("Round", text)

  def test_svg_is_well_formed_and_inside_of_its_frame(self):
    for page in (self.page(3), self.page(), self.page(1, blocked=False)):
      text = page.to_html()
      image = xml.fromstring(re.search(r"(?s)<svg.*?</svg>", text).group(0))
      width, height = (float(image.get(key)) for key in ("width", "height"))
      boxes = [tuple(float(box.get(key)) for key in (
          "x", "y", "width", "height")) for box in image.iter(
              "{http://www.w3.org/2000/svg}rect")]
      self.assertLen(boxes, page.to_dot().count("[label="))
      for x, y, across, down in boxes:
        self.assertTrue(0 <= x <= x + across <= width)
        self.assertTrue(0 <= y <= y + down <= height)
      for i, box in enumerate(boxes):  # No box lies on another.
        for other in boxes[:i]:
          self.assertTrue(
              abs(box[0] - other[0]) >= box[2] or
              abs(box[1] - other[1]) >= box[3], (box, other))

  def test_words_are_escaped(self):
    x = tf.placeholder(tf.float64, [None], name="x")
    page = gf.explain(x * x, x)
    page.summary = "<b>a & b</b>"
    text = page.to_html()
    self.assertNotIn("<b>", text)
    self.assertIn("&lt;b&gt;a &amp; b", text)
    self.assertIn("The way: &#x27;x&#x27; &gt; ", text)

  def test_without_any_way(self):
    x = tf.placeholder(tf.float64, [], name="x")
    y = tf.placeholder(tf.float64, [], name="y")
    page = gf.explain(y, x)
    self.assertEqual(page.verdict, "not differentiable")
    self.assertEqual(page.to_dot().count("[label="), 2)
    self.assertEqual(page.to_html().count("<rect"), 2)
    same = gf.explain(x, x)
    self.assertEqual(same.verdict, "differentiable")
    self.assertEqual(same.to_html().count("<rect"), 1)


class LoopTest(graphs.GraphTest):

  def test_the_state_begins_before_the_turns(self):
    x = tf.placeholder(tf.float64, [2], name="x")
    with flows.control_flow(1):
      y = tf.while_loop(lambda i, a: i < 3,
                        lambda i, a: (i + 1, tf.sin(a) * x),
                        [0, tf.tanh(x)])[1]
    page = gf.explain(y, x)
    order = [node["name"] for node in page.to_dict()["way"]["nodes"]]
    edges = page.to_dict()["way"]["edges"]
    back = [edge for edge in edges if order.index(edge[0]) > order.index(
        edge[1])]
    self.assertEqual(
        [edge[0].split("/")[-1] for edge in back], ["NextIteration_1"])
    picture = drawing.Drawing(page._paths)  # pylint: disable=protected-access
    arrived = {target for source, target in picture.arrows if source < target}
    self.assertEqual(len(arrived), len(picture.boxes) - 1)  # All but x.
    self.assertLen([pair for pair in picture.arrows if pair[0] > pair[1]], 1)
    # The head of the arrow that goes back points to the left.
    self.assertEqual(page.to_html().count("l7,-4 v8 z"), 1)


  def test_a_state_that_begins_with_a_constant(self):
    x = tf.placeholder(tf.float64, [2], name="x")
    with flows.control_flow(1):
      y = tf.while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, a + x),
                        [0, tf.zeros([2], tf.float64)])[1]
    page = gf.explain(y, x)
    picture = drawing.Drawing(page._paths)  # pylint: disable=protected-access
    arrived = {target for source, target in picture.arrows if source < target}
    missing = [box.title for i, box in enumerate(picture.boxes)
               if i not in arrived]
    self.assertEqual(sorted(missing), ["Enter", "Placeholder"])
    self.assertEqual(page.verdict, "differentiable")


class LabelsTest(graphs.GraphTest):

  def test_stay_inside_of_their_boxes(self):
    x = tf.placeholder(tf.float64, [2], name="W" * 60)
    with tf.name_scope("MMMMMMMMMMMMMMMMMMMM/WWWWWWWWWWWWWWWWWWWW"):
      h = tf.round(tf.sin(x), name="WMWMWMWMWMWMWMWMWMWMWMWMWM")
      y = tf.nn.softplus(h + tf.square(x), name="iiiiiiiiiiiiiiiiiiiiiiiiiiii")
    text = gf.explain(y, x).to_html()
    image = xml.fromstring(re.search(r"(?s)<svg.*?</svg>", text).group(0))
    space = "{http://www.w3.org/2000/svg}"
    for group in image.iter(space + "g"):
      width = float(group.find(space + "rect").get("width"))
      for label in group.iter(space + "text"):
        size = float(label.get("font-size", image.get("font-size")))
        # An em is the width of the widest letter.
        wide = sum(letter in "MW" for letter in label.text)
        letters = wide + 0.6 * (len(label.text) - wide)
        narrow = sum(letter in "i/." for letter in label.text)
        self.assertLessEqual(size * (letters - 0.3 * narrow), width)
