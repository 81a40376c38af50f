"""A plugin of pytest that tells scripts/check.py what happens, at once.

  python -m pytest -p tests.testing.live_reports tests

It writes a line of JSON for each event to the file descriptor whose number
the environment variable GRADFEED_REPORTS holds: {"total": number of tests},
{"done": number of tests that have ended} and {"failed": name of the test or
file, "report": text}. With pytest-xdist, the process that collects the
results writes.
"""

import json
import os

import pytest

_VARIABLE = "GRADFEED_REPORTS"


def pytest_configure(config):
  descriptor = os.environ.get(_VARIABLE)
  if descriptor and not hasattr(config, "workerinput"):
    config.pluginmanager.register(Reporter(int(descriptor)))


class Reporter:
  """Writes the events.

  Args:
    descriptor: int, open for writing.
  """

  def __init__(self, descriptor):
    self._descriptor = descriptor
    self._done = 0

  def pytest_collection_finish(self, session):
    if session.items:
      self._write(total=len(session.items))

  @pytest.hookimpl(optionalhook=True)
  def pytest_xdist_node_collection_finished(self, ids):
    self._write(total=len(ids))

  def pytest_collectreport(self, report):
    self._write_failure(report)

  def pytest_runtest_logreport(self, report):
    self._write_failure(report)
    if report.when == "teardown":
      self._done += 1
      self._write(done=self._done)

  def _write_failure(self, report):
    if report.failed:
      parts = [report.longreprtext] + [
          "---- {} ----\n{}".format(*section) for section in report.sections]
      name = report.nodeid or "a file of tests"  # Outside of the checkout.
      self._write(failed=name, report="\n".join(parts))

  def _write(self, **event):
    data = (json.dumps(event) + "\n").encode("utf-8")
    while data:
      data = data[os.write(self._descriptor, data):]
