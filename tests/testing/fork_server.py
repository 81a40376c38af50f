"""A process that has gradfeed imported, and forks for each program.

`processes` starts it, once in a run of pytest:

  python -m tests.testing.fork_server SOCKET

Each connection to the socket asks for one program: its arguments, folder and
environment as a line of JSON, its standard files as three descriptors beside
it. The answer is the process id of the program and, once it has ended, the
status that `os.waitpid` gives, a line each. The server has run no session and
started no thread of its own. It ends when its standard input does.
"""

import array
import atexit
import gc
import json
import os
import runpy
import select
import socket
import sys
import threading
import traceback
import types
import warnings


def _import_everything():
  """Imports the commands, TensorFlow with them, as scripts/gradfeed does."""
  os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
  screen, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
  os.dup2(nowhere, 2)
  try:
    # pylint: disable=g-import-not-at-top,unused-import
    from gradfeed.commands import at, check, demo, explain, export, inspect, runner
  finally:
    sys.stderr.flush()
    os.dup2(screen, 2)
    os.close(screen)
    os.close(nowhere)


def _receive(connection):
  """(request, descriptors): dict of what to run, its three standard files."""
  descriptors = array.array("i")
  data = b""
  while not data.endswith(b"\n"):
    part, ancillary, _, _ = connection.recvmsg(
        1 << 16, socket.CMSG_SPACE(3 * descriptors.itemsize))
    for _, _, passed in ancillary:
      descriptors.frombytes(passed)
    if not part:
      raise EOFError("the request ends early")
    data += part
  return json.loads(data.decode("utf-8")), list(descriptors)


def _become(request, descriptors):
  """Makes this process what a fresh interpreter is before its program."""
  for number, descriptor in enumerate(descriptors):
    os.dup2(descriptor, number)
    os.close(descriptor)
  for file in (sys.stdout, sys.stderr):
    file.reconfigure(line_buffering=file is sys.stderr or file.isatty())
  os.environ.clear()
  os.environ.update(request["environment"])
  os.chdir(request["folder"])
  sys.modules["numpy"].random.seed()
  options = os.environ.get("PYTHONWARNINGS")
  if options:
    sys.warnoptions[:] = options.split(",")
    for option in sys.warnoptions:
      warnings.simplefilter(option)


def _run(arguments, import_path):
  """Runs what `python ARGUMENTS` does, up to the end of the program.

  Args:
    arguments: list of str: a path, or "-c" and code, or "-m" and a module;
      then those of the program.
    import_path: list of str, where Python imports its own modules from.
  """
  kind = arguments[0]
  folder = {"-c": "", "-m": os.getcwd()}.get(
      kind, os.path.dirname(os.path.abspath(kind)))
  own = os.environ.get("PYTHONPATH")
  sys.path[:] = [folder] + (own.split(os.pathsep) if own else []) + import_path
  if kind == "-c":
    sys.argv[:] = [kind] + arguments[2:]
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    exec(compile(arguments[1], "<string>", "exec"),  # pylint: disable=exec-used
         vars(main))
  elif kind == "-m":
    sys.argv[:] = arguments[1:]
    runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
  else:
    sys.argv[:] = arguments
    runpy.run_path(kind, run_name="__main__")


def _finish(error):
  """Ends this process as the interpreter does, but frees nothing first.

  Args:
    error: what ended the program, or None.
  """
  status = 0
  if isinstance(error, SystemExit):
    status = error.code
    if not isinstance(status, (int, type(None))):
      print(status, file=sys.stderr)
      status = 1
  elif error is not None:
    traceback.print_exception(type(error), error, error.__traceback__)
    status = 1
  for thread in threading.enumerate():
    if thread is not threading.current_thread() and not thread.daemon:
      thread.join()
  atexit._run_exitfuncs()  # pylint: disable=protected-access
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit((status or 0) & 0xff)


def _serve(listener):
  """Answers until standard input ends; returns the request in each child."""
  while True:
    ready, _, _ = select.select([0, listener], [], [], 1.0)
    if 0 in ready:
      return None
    try:
      while os.waitpid(-1, os.WNOHANG)[0]:
        pass
    except ChildProcessError:
      pass
    if not ready:
      continue
    connection, _ = listener.accept()
    if os.fork():
      connection.close()
      continue
    # A process of its own waits for the program, and tells how it ends.
    listener.close()
    request, descriptors = _receive(connection)
    program = os.fork()
    if not program:
      connection.close()
      _become(request, descriptors)
      return request
    for descriptor in descriptors:
      os.close(descriptor)
    try:
      connection.sendall("{}\n".format(program).encode())
      status = os.waitpid(program, 0)[1]
      connection.sendall("{}\n".format(status).encode())
    except OSError:  # Nobody listens any more.
      pass
    os._exit(0)


def main(path):
  """Serves at the socket `path`; in a child, runs the program to its end."""
  inherited = os.environ.get("PYTHONPATH")
  known = set(inherited.split(os.pathsep)) if inherited else set()
  import_path = [entry for entry in sys.path[1:] if entry not in known]
  listener = socket.socket(socket.AF_UNIX)
  listener.bind(path)
  listener.listen(16)
  _import_everything()
  gc.collect()
  gc.freeze()  # So that no child copies all of it to look for garbage.
  request = _serve(listener)
  if request is None:
    return
  error = None
  try:
    _run(request["arguments"], import_path)
  except BaseException as raised:  # pylint: disable=broad-except
    error = raised
  _finish(error)


if __name__ == "__main__":
  main(sys.argv[1])
