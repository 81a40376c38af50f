"""Python programs in processes of their own, most without a fresh import.

To import TensorFlow takes seconds. `run` and `start` do what
`subprocess.run` and `subprocess.Popen` do with a Python program, but fork it
from a process that has imported gradfeed before (`fork_server`). With
fresh=True, and where forking such a process is not safe, they start the
interpreter.
"""

import array
import atexit
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time

from tests.testing import folders

PIPE, DEVNULL, STDOUT = subprocess.PIPE, subprocess.DEVNULL, subprocess.STDOUT

#: Where the socket of the server is, for the processes that tests start.
_VARIABLE = "GRADFEED_FORK_SERVER"

#: Libraries of other systems start threads of their own, which a fork loses.
FORKS = sys.platform.startswith("linux")

#: The command as it is installed.
GRADFEED = os.path.join(folders.ROOT, "scripts", "gradfeed")


def gradfeed(*arguments, **options):
  """Runs `gradfeed ARGUMENTS`, as a user's shell would.

  Args:
    *arguments: str.
    **options: `environment`, dict of variables to add; `program`, list of str
      to run in place of the command; others as in `run`.

  Returns:
    `subprocess.CompletedProcess` with text in `stdout` and `stderr`.
  """
  environment = dict(os.environ, PYTHONPATH=folders.ROOT)
  environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
  environment.update(options.pop("environment", {}))
  program = options.pop("program", [GRADFEED])
  return run(program + list(arguments), env=environment, **options)


def start(arguments, **options):
  """Starts `python ARGUMENTS`; a `Process`, or the `subprocess.Popen` of it.

  Args:
    arguments: list of str, as in `run`.
    **options: as of `Process`.
  """
  options.setdefault("env", dict(os.environ, PYTHONPATH=folders.ROOT))
  if FORKS:
    return Process(arguments, **options)
  return subprocess.Popen([sys.executable] + arguments, **options)


def run(arguments, fresh=False, timeout=None, **options):
  """Runs `python ARGUMENTS` to its end.

  Args:
    arguments: list of str: a path, or "-c" and code, or "-m" and a module;
      then those of the program.
    fresh: bool, start an interpreter in any case.
    timeout: float, seconds after which it is killed, or None.
    **options: as of `Process`; stdout and stderr are PIPE unless given.

  Returns:
    `subprocess.CompletedProcess`; `stdout` and `stderr` are str, or None
    where they were given.
  """
  options.setdefault("stdout", PIPE)
  options.setdefault("stderr", PIPE)
  options.setdefault("env", dict(os.environ, PYTHONPATH=folders.ROOT))
  if fresh or not FORKS:
    return subprocess.run([sys.executable] + arguments, timeout=timeout,
                          universal_newlines=True, check=False, **options)
  files = {}
  for name in ("stdout", "stderr"):
    if options[name] == PIPE:
      files[name] = options[name] = tempfile.TemporaryFile()
  try:
    process = Process(arguments, **options)
    process.wait(timeout)
    text = {}
    for name, file in files.items():
      file.seek(0)
      text[name] = file.read().decode("utf-8", "replace")
  finally:
    for file in files.values():
      file.close()
  return subprocess.CompletedProcess(
      arguments, process.returncode, text.get("stdout"), text.get("stderr"))


def _descriptors(stdin, stdout, stderr):
  """(three descriptors for the program, three pipe ends or None, to close)."""
  given, ends, mine = [], [], []
  for number, file in enumerate((stdin, stdout, stderr)):
    end = None
    if file == PIPE:
      pipe = os.pipe()
      given.append(pipe[number > 0])
      end = os.fdopen(pipe[number == 0], "rb" if number else "wb")
      mine.append(given[-1])
    elif file == DEVNULL:
      given.append(os.open(os.devnull, os.O_RDWR))
      mine.append(given[-1])
    elif file == STDOUT:
      given.append(given[1])
    elif file is None:
      given.append(number)
    else:
      given.append(file if isinstance(file, int) else file.fileno())
    ends.append(end)
  return given, ends, mine


class Process:
  """A forked program, with the methods of `subprocess.Popen` that tests use.

  Attributes:
    pid: int.
    returncode: int or None, as in `subprocess.Popen`.
    stdin, stdout, stderr: binary file of this side of a PIPE, or None.
  """

  def __init__(self, arguments, stdin=None, stdout=None, stderr=None, env=None,
               cwd=None):
    self.returncode = None
    path = os.environ.get(_VARIABLE) or _start()
    request = json.dumps({
        "arguments": list(arguments), "folder": cwd or os.getcwd(),
        "environment": dict(os.environ if env is None else env,
                            **{_VARIABLE: path})})
    given, (self.stdin, self.stdout, self.stderr), mine = _descriptors(
        stdin, stdout, stderr)
    self._connection = _connect(path)
    data = request.encode("utf-8") + b"\n"
    sent = self._connection.sendmsg([data], [(
        socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", given))])
    self._connection.sendall(data[sent:])
    for descriptor in mine:
      os.close(descriptor)
    self._answers = self._connection.makefile("r")
    self.pid = int(self._answers.readline())

  def wait(self, timeout=None):
    """Waits for the end; kills the program after `timeout` seconds."""
    if self.returncode is None:
      self._connection.settimeout(timeout)
      try:
        status = int(self._answers.readline())
      except socket.timeout:
        self.kill()
        raise subprocess.TimeoutExpired(str(self.pid), timeout)
      finally:
        self._answers.close()
        self._connection.close()
      self.returncode = (-os.WTERMSIG(status) if os.WIFSIGNALED(status)
                         else os.WEXITSTATUS(status))
    return self.returncode

  def send_signal(self, number):
    os.kill(self.pid, number)

  def kill(self):
    self.send_signal(9)


def fork_python():
  """Lets `subprocess.Popen` fork this interpreter's programs, from here on.

  It is for a program of a test that starts workers with pipes.
  """
  popen = subprocess.Popen

  def start(arguments, **options):
    if FORKS and arguments[0] == sys.executable:
      return Process(arguments[1:], **options)
    return popen(arguments, **options)

  subprocess.Popen = start


def _connect(path):
  """A connection to the server at a socket, which may be starting."""
  connection, end = socket.socket(socket.AF_UNIX), time.time() + 60.0
  while True:
    try:
      connection.connect(path)
      return connection
    except OSError:
      if time.time() > end:
        raise
      time.sleep(0.02)


def _start():
  """Starts the server for this process and those it starts; its socket."""
  folder = tempfile.mkdtemp()
  path = os.path.join(folder, "socket")
  environment = dict(os.environ)
  environment.pop("PYTHONWARNINGS", None)
  server = subprocess.Popen(
      [sys.executable, "-m", "tests.testing.fork_server", path],
      cwd=folders.ROOT, env=environment, stdin=PIPE, start_new_session=True)

  def stop():
    os.environ.pop(_VARIABLE, None)
    server.stdin.close()
    server.wait()
    shutil.rmtree(folder, ignore_errors=True)

  atexit.register(stop)
  os.environ[_VARIABLE] = path
  return path
