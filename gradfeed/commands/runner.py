"""Runs a command as an absl app: flags in, one clear line out when it fails."""

import importlib
import os
import sys
import warnings

from absl import app
from absl import flags

import gradfeed
from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.commands import completion
from gradfeed import errors

_HELP = ("--help", "-help", "--helpshort", "-helpshort", "-h")
_FULL_HELP = ("--helpfull", "-helpfull")

#: The module of each command beside this one, and what it does.
COMMANDS = {
    "at": "the gradient of a model at every point of a file",
    "check": "whether the gradient of a model at a value is right",
    "demo": "trains a small classifier and shows its gradients, checked",
    "explain": "whether y is differentiable by x in a model, and what to mind",
    "inspect": "what is in a model: candidates for x and y, signatures, loops",
}

USAGE = """\
gradfeed: the gradient of any tensor of a TensorFlow 1 graph, at any value.

  gradfeed COMMAND --flags

Commands:
{}

`gradfeed COMMAND --help` tells the flags of a command.
`gradfeed --version` tells the versions of gradfeed and TensorFlow.
`eval "$(gradfeed --completion=bash)"` completes all of this in bash, as
--completion=zsh does in zsh; kept in a file, it is there at once.""".format(
    "\n".join("  {:<8} {}".format(*item) for item in sorted(COMMANDS.items())))


def main(argv):
  """Runs one command as a process: never returns.

  Args:
    argv: list of str, the program's name first.

  Raises:
    SystemExit: 0 after success; 1 with a message on stderr; 2 with a message
      on stderr that names the wrong command, flag or argument.
  """
  name = argv[1] if len(argv) > 1 else "--help"
  if name in ("--help", "-h", "-help", "help"):
    print(USAGE)
    sys.exit(0)
  if name == "--version":
    print("gradfeed {}, TensorFlow {}".format(
        gradfeed.__version__, _tf.VERSION))
    sys.exit(0)
  if name.split("=")[0] == "--completion":
    _print_completion(name.partition("=")[2])
    sys.exit(0)
  if name not in COMMANDS:
    print("gradfeed: there is no command '{}'.\n\n{}".format(name, USAGE),
          file=sys.stderr)
    sys.exit(2)
  run(_module(name), argv)


def _module(name):
  """The module of a command."""
  return importlib.import_module("gradfeed.commands." + name)


def _print_completion(shell):
  if shell not in completion.SHELLS:
    print("gradfeed: there is no completion for '{}'.\nTry: {}".format(
        shell, " or ".join("gradfeed --completion=" + known
                           for known in completion.SHELLS)), file=sys.stderr)
    sys.exit(2)
  sys.stdout.write(completion.script(shell, {
      name: (tells, _module(name).FLAGS) for name, tells in COMMANDS.items()}))


def run(module, argv):
  """Runs `module.main()` as a process: never returns.

  Args:
    module: the command: `main()` without arguments, `FLAGS` of its own (two
      commands may have flags of one name; `REQUIRED` lists those that have to
      be given), and a docstring that ends with a line to paste.
    argv: list of str: the program, the command, its flags.

  Raises:
    SystemExit: 0, or 1 after an error, or 2 for a wrong flag or argument.
  """
  name = "gradfeed " + argv[1]
  try:
    app.run(lambda _: _guarded(module.main, name), argv=[name] + argv[2:],
            flags_parser=lambda args: _parse(module, args))
  except BrokenPipeError:  # `gradfeed demo | head`
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1)


def _parse(module, argv):
  """Parses the flags; nothing but flags may stand on the line."""
  name = argv[0]
  flags.FLAGS.append_flag_values(module.FLAGS)
  if any(argument in _HELP + _FULL_HELP for argument in argv[1:]):
    _print_help(module, name, any(a in _FULL_HELP for a in argv[1:]))
    sys.exit(0)
  try:
    rest = flags.FLAGS(argv)[1:]
    module.FLAGS.mark_as_parsed()
  except flags.Error as error:
    _refuse(name, str(error).replace("flag --", "--", 1))
  if rest:
    _refuse(name, "not a flag: {}.{}".format(
        ", ".join("'{}'".format(argument) for argument in rest),
        "".join(" Did you mean --{}?".format(argument) for argument in rest
                if argument.split("=")[0] in flags.FLAGS)))
  missing = [flag for flag in getattr(module, "REQUIRED", ())
             if not flags.FLAGS[flag].value]
  if missing:
    _refuse(name, "missing: {}.".format(
        ", ".join("--" + flag for flag in missing)))
  return rest


def _refuse(name, message):
  print("{}: {}\nTry: {} --help".format(name, message.rstrip(), name),
        file=sys.stderr)
  sys.exit(2)


def _print_help(module, name, full):
  own = module.FLAGS.module_help(module.__name__).strip("\n")
  print("{}: {}\n\nFlags:\n{}".format(
      name, module.__doc__.rstrip(), own.split("\n", 1)[1]))
  if full:
    print("\nFlags of every module:\n{}".format(flags.FLAGS.get_help()))


def _guarded(main, name):
  """`main()` in graph mode; what it refuses becomes a message and status 1."""
  tf.disable_eager_execution()
  tf.logging.set_verbosity(tf.logging.ERROR)
  warnings.showwarning = lambda message, category, *_, **__: print(
      "{}: warning: {}".format(name, message), file=sys.stderr)
  try:
    status = main()
    sys.stdout.flush()
    return status
  except errors.GradfeedError as error:
    print("{}: {}".format(name, error), file=sys.stderr)
  except tf.errors.OpError as error:
    print("{}: TensorFlow could not run it: {}".format(
        name, error.message.split("\n")[0]), file=sys.stderr)
  except BrokenPipeError:
    raise
  except OSError as error:
    print("{}: {}: {}.".format(name, error.filename, error.strerror)
          if error.filename else "{}: {}".format(name, error),
          file=sys.stderr)
  except KeyboardInterrupt:
    print("{}: interrupted.".format(name), file=sys.stderr)
    return 130
  return 1
