"""The mode of TensorFlow for the whole run, set before any test.

The environment variable GRADFEED_MODE is "v1" (ref variables and control flow
v1, the default), "v2" (on TF 2: resource variables and control flow v2) or
"eager" (as "v2", with eager execution left on, as in a project that is being
migrated: the tests build their graphs in blocks of `tf.Graph()`).
"""

import gc
import os
import warnings

with warnings.catch_warnings():
  warnings.simplefilter("ignore")
  import tensorflow.compat.v1 as tf

_MODES = {
    "v1": tf.disable_v2_behavior,
    "v2": tf.disable_eager_execution,
    "eager": tf.enable_eager_execution,
}

MODE = os.environ.get("GRADFEED_MODE", "v1")
if MODE not in _MODES:
  raise ValueError("GRADFEED_MODE={} is none of {}.".format(
      MODE, ", ".join(sorted(_MODES))))
_MODES[MODE]()

#: Tests of what has no mode, or of control flow v1: they run in "v1" alone. A
#: single test of that kind has `tests.testing.modes.without_mode`.
_WITHOUT_MODE = [
    "beam/import_test.py", "commands/audit_test.py", "commands/check_test.py",
    "commands/clusters_test.py", "commands/commands_test.py",
    "commands/compare_test.py", "commands/completion_test.py",
    "commands/export_test.py", "compilation/sweep_test.py",
    "models/damaged_files_test.py", "models/keras_configs_test.py",
    "numeric_comparison_test.py", "progress_lines_test.py",
    "project/architecture_test.py", "project/benchmark_test.py",
    "project/check_script_test.py", "project/docs_test.py",
    "project/interrupt_streams_test.py", "project/kill_workers_test.py",
    "project/package_test.py", "project/public_names_test.py",
    "rewriting/functionalization_test.py", "streaming/progress_bars_test.py"]

#: Tests whose graphs are the same in "v2" and "eager", op by op: they run in
#: "v1" and in "eager".
_LIKE_EAGER = ["compilation/verdicts_test.py", "derivatives/buffers_test.py"]
collect_ignore = {
    "v1": [], "v2": _WITHOUT_MODE + _LIKE_EAGER, "eager": _WITHOUT_MODE}[MODE]
tf.logging.set_verbosity(tf.logging.ERROR)


def pytest_collection_finish():
  """Leaves what is imported out of each search for garbage: it is large."""
  gc.collect()
  gc.freeze()


def pytest_report_header():
  return "gradfeed: mode {}, TensorFlow {}".format(MODE, tf.__version__)


def pytest_terminal_summary(terminalreporter):
  terminalreporter.write_line(pytest_report_header())
