"""Control characters in names never reach a terminal, a page or a picture."""

import copy
import os
import tempfile
import warnings

from absl.testing import parameterized
import tensorflow.compat.v1 as tf

from gradfeed import errors
from gradfeed import findings
from gradfeed.commands import inspect
from gradfeed.explaining import drawing
from gradfeed.explaining import pages
from gradfeed.models import loading
from tests.testing import graphs

#: A sequence that clears a screen, the ends of lines, a zero, an override of
#: the direction of writing, and the end of a script.
_NAME = "a\x1b[2J\r\n\0\u202e\u2028\x9b</script>\"b"
_ESCAPED = "a\\x1b[2J\\r\\n\\x00\\u202e\\u2028\\x9b</script>\"b"


def _is_harmless(text):
  """Whether a terminal shows `text` as it is, in its lines."""
  return all(line.isprintable() for line in text.split("\n"))


class PrintableTest(parameterized.TestCase):

  def test_escapes_what_is_not_printed(self):
    self.assertEqual(errors.printable(_NAME), _ESCAPED)
    self.assertEqual(errors.printable(_ESCAPED), _ESCAPED)
    self.assertEqual(errors.printable("größe/μ [?, 2]"), "größe/μ [?, 2]")
    self.assertEqual(errors.printable("\udc80"), "\\udc80")

  def test_errors_and_warnings(self):
    error = errors.FeedError(_NAME, _NAME, "one:\n    two\n    three")
    self.assertEqual(str(error), "{0}\n  Why: {0}\n  Fix: one:\n    two\n"
                     "    three".format(_ESCAPED))
    self.assertEqual(error.what, _NAME)  # For programs.
    with warnings.catch_warnings(record=True) as caught:
      warnings.simplefilter("always")
      warnings.warn(errors.GradfeedWarning(_NAME))
    self.assertEqual(str(caught[0].message), _ESCAPED)
    self.assertEqual(str(copy.copy(caught[0].message)), _ESCAPED)

  def test_findings_and_reports(self):
    finding = findings.Finding("kind", findings.BAD, _NAME, _NAME, _NAME,
                               [_NAME])
    report = findings.FindingsReport("bad", _NAME, [finding] * 6)
    for text in (str(report), repr(report), repr(finding), report.to_json()):
      self.assertTrue(_is_harmless(text), repr(text))
    self.assertIn(_ESCAPED[:10], str(report))

  def test_inventory(self):
    tensor = {"name": _NAME, "dtype": "float32", "shape": [None],
              "has_value": False}
    reaching = {"type": "ReadFile", "name": _NAME, "reach": "reads a file"}
    text = inspect.as_lines({
        "path": _NAME, "kind": "SavedModel", "ops": 1, "variables": [tensor],
        "x": [tensor], "y": [tensor], "feeds": [tensor],
        "signatures": {_NAME: {"inputs": {_NAME: _NAME},
                               "outputs": {_NAME: _NAME}}},
        "loops": [_NAME], "branches": [_NAME], "random": [_NAME],
        "waiting": [_NAME], "assigning": [_NAME],
        "outside": [reaching], "outside_when_loaded": [reaching]},
                            lambda rows, **_: "  ".join(rows[0]))
    self.assertTrue(_is_harmless(text), repr(text))
    self.assertEqual(text.count(_ESCAPED), 17)


class PictureTest(graphs.GraphTest):

  def test_names_in_a_picture(self):
    node = type("Node", (), {"name": _NAME, "type": _NAME, "state": "x"})
    box = drawing.Box([node], None)
    picture = type("Picture", (), {"boxes": [box], "arrows": []})
    report = findings.FindingsReport(
        "bad", _NAME, [findings.Finding("kind", findings.BAD, _NAME)])
    report.verdict = _NAME
    page, dot = pages.html(report, picture), drawing.dot(picture)
    for text in (page, dot):
      self.assertTrue(_is_harmless(text), repr(text))
    self.assertNotIn("</script>", page)
    self.assertIn("&lt;/script&gt;", page)
    label, = [line for line in dot.split("\n") if "label=" in line]
    self.assertIn('\\"b', label)  # A quotation mark does not end the string.
    self.assertIn("\\\\x1b", label)


class FileTest(graphs.GraphTest):

  def test_a_graph_with_such_names(self):
    definition = tf.GraphDef()
    node = definition.node.add(name="x\x1b[2J\u202e", op="NoSuchOp\x1b[31m")
    node.attr["dtype"].type = tf.float32.as_datatype_enum
    path = os.path.join(self.enter_context(tempfile.TemporaryDirectory()),
                        "m.pb")
    with open(path, "wb") as output:
      output.write(definition.SerializeToString())
    with self.assertRaises(errors.GradfeedError) as caught:
      loading.load(path)
    self.assertTrue(_is_harmless(str(caught.exception)))
