"""What `gradfeed` on the command line starts.

  gradfeed COMMAND --flags

It stands beside the package, not in it, because importing the package imports
TensorFlow, which may be missing, and which has to be quieted before.
"""

import contextlib
import importlib
import os
import sys
import warnings

#: The module of each command under `gradfeed.commands`, and what it does.
COMMANDS = {
    "at": "the gradient of a frozen graph at every point of a file",
    "demo": "trains a small classifier and shows its gradients, checked",
}

USAGE = """\
gradfeed: the gradient of any tensor of a TensorFlow 1 graph, at any value.

  gradfeed COMMAND --flags

Commands:
{}

`gradfeed COMMAND --help` tells the flags of a command.
`gradfeed --version` tells the versions of gradfeed and TensorFlow.""".format(
    "\n".join("  {:<6} {}".format(*item) for item in sorted(COMMANDS.items())))


def main(argv=None):
  """Runs one command as a process: never returns.

  Args:
    argv: list of str, the program's name first; None for `sys.argv`.

  Raises:
    SystemExit: 0 after success; 1 with a message on stderr; 2 with a message
      on stderr that names the wrong command, flag or argument.
  """
  argv = list(sys.argv if argv is None else argv)
  name = argv[1] if len(argv) > 1 else "--help"
  if name in ("--help", "-h", "-help", "help"):
    print(USAGE)
    sys.exit(0)
  if name != "--version" and name not in COMMANDS:
    print("gradfeed: there is no command '{}'.\n\n{}".format(name, USAGE),
          file=sys.stderr)
    sys.exit(2)
  try:
    with _quiet():
      import gradfeed  # pylint: disable=g-import-not-at-top
      from gradfeed.commands import apps  # pylint: disable=g-import-not-at-top
  except ImportError as error:
    print("gradfeed: {}".format(error), file=sys.stderr)
    sys.exit(1)
  if name == "--version":
    print("gradfeed {}, TensorFlow {}".format(
        gradfeed.__version__, apps.tensorflow_version()))
    sys.exit(0)
  apps.run(importlib.import_module("gradfeed.commands." + name), argv)


@contextlib.contextmanager
def _quiet():
  """Keeps what TensorFlow says of itself at import off the screen.

  TF_CPP_MIN_LOG_LEVEL=0 or 1 in the environment, or python -W, shows it.
  """
  if not sys.warnoptions:
    warnings.simplefilter("ignore", FutureWarning)
    warnings.simplefilter("ignore", DeprecationWarning)
  if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") in ("0", "1"):
    yield
    return
  sys.stderr.flush()
  screen, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
  os.dup2(nowhere, 2)  # Some of it is written before any level is read.
  try:
    yield
  finally:
    sys.stderr.flush()
    os.dup2(screen, 2)
    os.close(screen)
    os.close(nowhere)


if __name__ == "__main__":
  main()
