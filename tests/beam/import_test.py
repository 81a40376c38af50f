"""Tests of what is imported, with Beam and without."""

from absl.testing import parameterized

from tests.testing import processes


class ImportTest(parameterized.TestCase):

  def test_without_beam_the_error_says_what_to_type(self):
    done = processes.run(["-c", (
        "import sys; sys.modules['apache_beam'] = None\n"
        "import gradfeed\n"
        "try:\n"
        "  import gradfeed.beam\n"
        "except gradfeed.DependencyError as error:\n"
        "  print(error)")])
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertIn("pip install 'gradfeed[beam]'", done.stdout)

  def test_gradfeed_alone_loads_no_engine(self):
    done = processes.run(["-c", (
        "import sys, gradfeed\n"
        "for name in gradfeed.__all__: getattr(gradfeed, name)\n"
        "import gradfeed.shards\n"
        "print([name for name in ('apache_beam', 'dask', 'pyspark')\n"
        "       if name in sys.modules])")], fresh=True)
    self.assertEqual(done.stdout.strip(), "[]", done.stderr)
