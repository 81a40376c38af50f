"""Runs a command as an absl app, and prints what it refuses as one message."""

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
    "audit": "runs a script as it is, and says what to mend in its gradients",
    "check": "whether the gradient of a model at a value is right",
    "compare": "whether two models agree, and where a difference begins",
    "demo": "trains a small classifier and shows its gradients, checked",
    "explain": "whether y is differentiable by x in a model, and what to mind",
    "export": "a SavedModel of the value and the gradient, for any reader",
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
    print("gradfeed: there is no command '{}'.\n\n{}".format(
        errors.printable(name), USAGE),
          file=sys.stderr)
    sys.exit(2)
  if name == "audit":  # What follows belongs to the script.
    audit = _module(name)
    full_name = "gradfeed audit"
    audit.run(argv[2:], lambda message: _refuse(full_name, message),
              lambda: _print_help(audit, full_name, False))
  run(_module(name), argv)


def _module(name):
  """Imports the module of a command."""
  return importlib.import_module("gradfeed.commands." + name)


def _print_completion(shell):
  """Prints the script that completes commands and flags in a shell."""
  if shell not in completion.SHELLS:
    print("gradfeed: there is no completion for '{}'.\nTry: {}".format(
        shell, " or ".join("gradfeed --completion=" + supported
                           for supported in completion.SHELLS)),
          file=sys.stderr)
    sys.exit(2)
  sys.stdout.write(completion.script(shell, {
      name: (summary, _module(name).FLAGS)
      for name, summary in COMMANDS.items()}))


def run(module, argv):
  """Runs `module.main()` as a process: never returns.

  Args:
    module: the command: `main()` without arguments, `FLAGS` of its own (two
      commands may have flags of one name; `REQUIRED` lists those that have to
      be given), and a docstring that ends with a line to paste. One that
      passes arguments on has `take_options`, which is given those after "--".
    argv: list of str: the program, the command, its flags.

  Raises:
    SystemExit: 0, or 1 after an error, or 2 for a wrong flag or argument.
  """
  name = "gradfeed " + argv[1]
  try:
    app.run(lambda _: _status_of(module, name), argv=[name] + argv[2:],
            flags_parser=lambda args: _parse(module, args))
  except BrokenPipeError:  # `gradfeed demo | head`
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1)


def _parse(module, argv):
  """Parses the flags of a command; an argument that is no flag is refused.

  Args:
    module: the command.
    argv: list of str, the command and its flags.

  Returns:
    an empty list, the arguments that are no flags.

  Raises:
    SystemExit: 0 after the help; 2 for a wrong or a missing flag.
  """
  name = argv[0]
  flags.FLAGS.append_flag_values(module.FLAGS)
  if "--" in argv and hasattr(module, "take_options"):
    module.take_options(argv[argv.index("--") + 1:])
    argv = argv[:argv.index("--")]
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
  """Prints what is wrong with the flags, and exits with status 2."""
  lines = map(errors.printable, message.rstrip().split("\n"))
  print("{}: {}\nTry: {} --help".format(name, "\n".join(lines), name),
        file=sys.stderr)
  sys.exit(2)


def _print_help(module, name, full):
  """Prints the docstring of a command and its flags; or the flags of all."""
  own = module.FLAGS.module_help(module.__name__).strip("\n")
  print("{}: {}\n\nFlags:\n{}".format(
      name, module.__doc__.rstrip(), own.split("\n", 1)[1]))
  if full:
    print("\nFlags of every module:\n{}".format(flags.FLAGS.get_help()))


def _status_of(module, name):
  """Runs a command, and prints the errors that it raises.

  It runs in graph mode, unless the module has a function `runs_eagerly` that
  says otherwise.

  Args:
    module: that of the command.
    name: str, of the command.

  Returns:
    the exit status: what `main` returns, 1 after an error, 130 after Ctrl-C.
  """
  if not getattr(module, "runs_eagerly", bool)():
    tf.disable_eager_execution()
  tf.logging.set_verbosity(tf.logging.ERROR)
  warnings.showwarning = lambda message, category, *_, **__: print(
      "{}: warning: {}".format(name, errors.printable_lines(message)),
      file=sys.stderr)
  try:
    status = module.main()
    sys.stdout.flush()
    return status
  except errors.GradfeedError as error:
    print("{}: {}".format(name, error), file=sys.stderr)
  except tf.errors.OpError as error:
    print("{}: TensorFlow could not run it: {}".format(
        name, errors.printable(error.message.split("\n")[0])),
          file=sys.stderr)
  except BrokenPipeError:
    raise
  except OSError as error:
    print("{}: {}".format(name, errors.printable(
        "{}: {}.".format(error.filename, error.strerror)
        if error.filename else error)), file=sys.stderr)
  except KeyboardInterrupt:
    print("{}: interrupted.".format(name), file=sys.stderr)
    return 130
  return 1
