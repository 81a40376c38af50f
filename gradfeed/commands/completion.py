"""Scripts that complete commands and flags in a shell.

A script holds all the words, made from the flags of each command: completing a
word starts no Python, and no TensorFlow.
"""

import re

_SPEAKS_OF_FILES = re.compile(r"\b(file|directory)\b")

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

_OF_ALL = ("--completion=", "--help", "--version")
_OF_EACH = (("help", "tells the flags"),)


def script(shell, commands):
  """The script for a shell.

  Args:
    shell: str, one of `SHELLS`.
    commands: dict from the name of each command to (what it does, the
      `flags.FlagValues` of it).

  Returns:
    str.
  """
  return SHELLS[shell]({
      name: (tells, [flag_values[flag] for flag in sorted(flag_values)
                     if flag_values[flag].name == flag])
      for name, (tells, flag_values) in sorted(commands.items())})


def _bash(commands):
  values, flags = [], ["        '') words='{}' ;;".format(
      " ".join(list(commands) + list(_OF_ALL)))]
  for name, (_, found) in commands.items():
    words = ["--" + flag for flag, _ in _OF_EACH]
    for flag in found:
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
  lines = []
  for name, (_, found) in commands.items():
    lines.append("    {}) _arguments -S \\".format(name))
    lines.extend("      '--{}[{}]' \\".format(*item) for item in _OF_EACH)
    for flag in found:
      tells = _quoted(_first_sentence(flag))
      if flag.boolean:
        lines.append("      '--{}[{}]' \\".format(flag.name, tells))
        lines.append("      '--no{}' \\".format(flag.name))
        continue
      action = ""
      if _choices(flag):
        action = "({})".format(" ".join(_choices(flag)))
      elif _is_path(flag):
        action = "_files"
      lines.append("      '{}--{}=[{}]:{}:{}' \\".format(
          "*" if flag.flag_type().startswith("multi") else "",
          flag.name, tells, flag.name, action))
    lines[-1] = lines[-1][:-2] + " ;;"
  return _ZSH.replace("@COMMANDS@", "\n".join(
      "      '{}:{}'".format(name, _quoted(tells))
      for name, (tells, _) in commands.items())).replace(
          "@FLAGS@", "\n".join(lines))


def _first_sentence(flag):
  """What a flag does, without what absl adds for an enum and for a list."""
  text = re.sub(r"^<\S+>: ", "", flag.help).split(";\n")[0]
  return text.split(". ")[0].rstrip(".")


def _choices(flag):
  """The values that an enum has; none of another flag."""
  return getattr(flag.parser, "enum_values", None) or []


def _is_path(flag):
  """Whether a flag takes the path of a file, as its help tells."""
  return flag.flag_type() in ("string", "comma separated list of strings") and (
      _SPEAKS_OF_FILES.search(flag.help) is not None)


def _quoted(text):
  """A text between single quotes and square brackets of `_arguments`."""
  return re.sub(r"([\[\]:\\])", r"\\\1", text).replace("'", "'\\''")


#: How the script of each shell is made.
SHELLS = {"bash": _bash, "zsh": _zsh}
