"""Writes scripts that complete commands and flags in a shell.

A script holds all the words, made from the flags of each command: completing a
word starts neither Python nor TensorFlow.
"""

import re

#: A flag whose help has one of these words takes a path.
_WORDS_FOR_FILES = re.compile(r"\b(file|directory)\b")

_BASH = r"""# Completes gradfeed in bash: eval "$(gradfeed --completion=bash)"
_gradfeed() {
  local command=${COMP_WORDS[1]} word=${COMP_WORDS[COMP_CWORD]}
  local before=${COMP_WORDS[COMP_CWORD-1]} flag= kept= words= files= line
  COMPREPLY=()
  # "--flag=value" comes as three words; as one without = in COMP_WORDBREAKS.
  if [[ $word == "=" ]]; then
    flag=$before word=
  elif [[ $before == "=" ]]; then
    flag=${COMP_WORDS[COMP_CWORD-2]}
  elif [[ $word == --*=* ]]; then
    flag=${word%%=*} kept=${word%%=*}= word=${word#*=}
  elif [[ $before == --* ]]; then
    flag=$before
  fi
  if (( COMP_CWORD == 1 )); then
    command=
  fi
  case "$command $flag" in
    *' --completion') words='bash zsh' ;;
@VALUES@
    *)
      if [[ $kept || ${COMP_WORDS[COMP_CWORD]} == "=" || $before == "=" ]]; then
        return
      fi
      case "$command" in
@FLAGS@
      esac ;;
  esac
  if [[ $files ]]; then
    compopt -o filenames 2>/dev/null
    while IFS= read -r line; do
      COMPREPLY+=("$kept$line")
    done < <(compgen -f -- "$word")
    return
  fi
  while IFS= read -r line; do
    # What takes a value is completed up to it.
    if [[ $line == *= ]]; then
      compopt -o nospace 2>/dev/null
    fi
    COMPREPLY+=("$kept$line")
  done < <(compgen -W "$words" -- "$word")
}
complete -F _gradfeed gradfeed
"""

_ZSH = r"""# Completes gradfeed in zsh: eval "$(gradfeed --completion=zsh)"
if ! (( $+functions[compdef] )); then
  autoload -Uz compinit && compinit
fi
_gradfeed() {
  if (( CURRENT == 2 )); then
    local -a commands=(
@COMMANDS@
    )
    _describe command commands
    compadd -- --completion=bash --completion=zsh --help --version
    return
  fi
  local command=$words[2]
  shift words
  (( CURRENT-- ))
  case $command in
@FLAGS@
  esac
}
compdef _gradfeed gradfeed
"""

#: The flags of the program itself.
_FLAGS_OF_PROGRAM = ("--completion=", "--help", "--version")

#: (name, summary) of the flags that every command has.
_FLAGS_OF_COMMANDS = (("help", "tells the flags"),)


def script(shell, commands):
  """Writes the script for a shell.

  Args:
    shell: str, one of `SHELLS`.
    commands: dict from the name of each command to (what it does, its
      `flags.FlagValues`).

  Returns:
    str.
  """
  return SHELLS[shell]({
      name: (summary, [flag_values[flag] for flag in sorted(flag_values)
                       if flag_values[flag].name == flag])
      for name, (summary, flag_values) in sorted(commands.items())})


def _bash(commands):
  """The script for bash.

  Args:
    commands: dict from the name of each command to (str, what it does; list of
      `flags.Flag`).
  """
  values, flags = [], ["        '') words='{}' ;;".format(
      " ".join(list(commands) + list(_FLAGS_OF_PROGRAM)))]
  for name, (_, own_flags) in commands.items():
    words = ["--" + flag for flag, _ in _FLAGS_OF_COMMANDS]
    for flag in own_flags:
      words.append("--{}{}".format(flag.name, "" if flag.boolean else "="))
      if flag.boolean:
        words.append("--no" + flag.name)
      elif _choices(flag):
        values.append("    '{} --{}') words='{}' ;;".format(
            name, flag.name, " ".join(_choices(flag))))
      elif _is_path(flag):
        values.append("    '{} --{}') files=yes ;;".format(name, flag.name))
    flags.append("        {}) words='{}' ;;".format(name, " ".join(words)))
  return _BASH.replace("@VALUES@", "\n".join(values)).replace(
      "@FLAGS@", "\n".join(flags))


def _zsh(commands):
  """The script for zsh, of `commands` as in `_bash`."""
  lines = []
  for name, (_, own_flags) in commands.items():
    lines.append("    {}) _arguments -S \\".format(name))
    lines.extend(
        "      '--{}[{}]' \\".format(*flag) for flag in _FLAGS_OF_COMMANDS)
    for flag in own_flags:
      summary = _quoted(_first_sentence(flag))
      if flag.boolean:
        lines.append("      '--{}[{}]' \\".format(flag.name, summary))
        lines.append("      '--no{}' \\".format(flag.name))
        continue
      action = ""
      if _choices(flag):
        action = "({})".format(" ".join(_choices(flag)))
      elif _is_path(flag):
        action = "_files"
      lines.append("      '{}--{}=[{}]:{}:{}' \\".format(
          "*" if flag.flag_type().startswith("multi") else "",
          flag.name, summary, flag.name, action))
    lines[-1] = lines[-1][:-2] + " ;;"
  return _ZSH.replace("@COMMANDS@", "\n".join(
      "      '{}:{}'".format(name, _quoted(summary))
      for name, (summary, _) in commands.items())).replace(
          "@FLAGS@", "\n".join(lines))


def _first_sentence(flag):
  """The first sentence of the help of a flag, without what absl adds to it."""
  text = re.sub(r"^<\S+>: ", "", flag.help).split(";\n")[0]
  return text.split(". ")[0].rstrip(".")


def _choices(flag):
  """The values that an enum flag can have; an empty list for another flag."""
  return getattr(flag.parser, "enum_values", None) or []


def _is_path(flag):
  """Whether a flag takes the path of a file, as its help says."""
  return flag.flag_type() in ("string", "comma separated list of strings") and (
      _WORDS_FOR_FILES.search(flag.help) is not None)


def _quoted(text):
  """Escapes a text for the single quotes and brackets of `_arguments`."""
  return re.sub(r"([\[\]:\\])", r"\\\1", text).replace("'", "'\\''")


#: The function that writes the script of each shell.
SHELLS = {"bash": _bash, "zsh": _zsh}
