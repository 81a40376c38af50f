"""Runs a legacy program as it is, and reports what to mend in its gradients.

The arguments after the script are its own. It runs as `python script.py` would
run it, and the status is the script's. The report, on stderr, names lines where
gradients are built in loops, graphs grow, feeds are ignored and so on.

  gradfeed audit train.py --steps=100
"""

import os
import sys
import traceback
import types

from absl import flags

from gradfeed import errors
from gradfeed.auditing.audits import audit

FLAGS = flags.FlagValues()
_FORMAT = flags.DEFINE_enum(
    "format", "text", ["text", "json"], "How to print the report.",
    flag_values=FLAGS)
_HTML = flags.DEFINE_string(
    "html", None, "Write the report to this file too, a page of HTML.",
    flag_values=FLAGS)
_JSON = flags.DEFINE_string(
    "json", None, "Write the report to this file too, as JSON.",
    flag_values=FLAGS)


def split(arguments):
  """The flags of this command; the script and its arguments.

  Args:
    arguments: list of str, all that follows `gradfeed audit`.

  Returns:
    (list of str, list of str), the second empty where there is no script.
  """
  own = list(arguments)
  for i, argument in enumerate(own):
    is_value = i and own[i - 1].startswith("-") and "=" not in own[i - 1] and (
        own[i - 1].lstrip("-") in FLAGS)
    if not argument.startswith("-") and not is_value:
      return own[:i], own[i:]
  return own, []


def audited(command):
  """Runs a script, and prints and writes the report.

  Args:
    command: list of str, the script and its arguments.

  Returns:
    the status with which the script would end.
  """
  with open(command[0], "rb") as source:
    code = compile(source.read(), command[0], "exec")
  status = 0
  with audit([command[0]]) as report:
    main = types.ModuleType("__main__")  # Lives until the report is there.
    try:
      _execute(code, main, command)
    except SystemExit as stop:
      status = stop.code
    except KeyboardInterrupt:
      status = 130
    except BaseException as error:  # pylint: disable=broad-except
      inner = error.__traceback__
      while inner is not None and inner.tb_frame.f_code is not code:
        inner = inner.tb_next
      traceback.print_exception(
          type(error), error, inner or error.__traceback__)
      status = 1
  sys.stdout.flush()
  print(report if _FORMAT.value == "text" else report.to_json(),
        file=sys.stderr)
  for path, text in ((_HTML.value, report.to_html), (_JSON.value,
                                                     report.to_json)):
    if path:
      with open(path + ".partial", "w", encoding="utf-8") as output:
        output.write(text())
      os.replace(path + ".partial", path)
  return status


def _execute(code, main, command):
  """Executes a script as the main module of the process."""
  main.__dict__.update(
      __file__=command[0], __builtins__=__builtins__, __cached__=None)
  before = sys.modules["__main__"], sys.argv, sys.path[0]
  sys.modules["__main__"] = main
  sys.argv = list(command)
  sys.path[0] = os.path.dirname(os.path.abspath(command[0]))
  try:
    exec(code, main.__dict__)  # pylint: disable=exec-used
  finally:
    sys.modules["__main__"], sys.argv, sys.path[0] = before


def run(arguments, refuse, print_help):
  """Runs the command as a process: never returns.

  Args:
    arguments: list of str, all that follows `gradfeed audit`.
    refuse: function of a message that exits with status 2.
    print_help: function without arguments.
  """
  own, command = split(arguments)
  if any(argument.lstrip("-") in ("help", "h", "helpshort", "helpfull")
         for argument in own):
    print_help()
    sys.exit(0)
  try:
    FLAGS(["gradfeed audit"] + own)
  except flags.Error as error:
    refuse(str(error).replace("flag --", "--", 1))
  if not command:
    refuse("missing: the script.")
  try:
    status = audited(command)
  except (errors.GradfeedError, SyntaxError) as error:
    refuse(str(error))
  except OSError as error:
    refuse("{}: {}.".format(error.filename, error.strerror))
  sys.exit(status)
