"""Where TensorFlow offers the functions that are replaced.

One function is an attribute of several modules: `tf`, `tf.compat.v1`,
`tf.compat.v1.compat.v1` and so on. They are found by what they hold. Modules of
TensorFlow's implementation, which it calls itself, are left as they are.
"""

import collections
import importlib.abc
import sys

from gradfeed import _tf
from gradfeed.patching import replacements

#: An attribute that was replaced: its holder is a module or a class.
_Replaced = collections.namedtuple(
    "_Replaced", ["holder", "name", "original", "replacement"])


class EntryPoints:
  """The attributes that are replaced now, in the whole process."""

  def __init__(self, source=replacements):
    """Takes what has `State`, `OF_FUNCTIONS`, `OF_KERAS` and `session_run`."""
    self._source = source
    self._replaceable = set(map(id, source.OF_FUNCTIONS))
    self._replaced = []
    self._finder = _BackendFinder(self._replace_in_module)

  def replace(self):
    """Replaces what is not replaced yet."""
    self._source.State.is_active = True
    for kind in (_tf.BaseSession, _tf.Session, _tf.InteractiveSession):
      original = vars(kind).get("run")
      if original is not None and not self._is_replacement(original):
        self._set(kind, "run", original, self._source.session_run(original))
    for name, module in list(sys.modules.items()):
      if _is_public(name):
        self._replace_in_module(name, module)
    if self._finder not in sys.meta_path:
      sys.meta_path.insert(0, self._finder)

  def restore(self):
    """Puts back what was replaced, save where others replaced it since."""
    self._source.State.is_active = False
    if self._finder in sys.meta_path:
      sys.meta_path.remove(self._finder)
    while self._replaced:
      one = self._replaced.pop()
      if vars(one.holder).get(one.name) is one.replacement:
        setattr(one.holder, one.name, one.original)

  def _replace_in_module(self, module_name, module):
    """Replaces the functions that one public module holds."""
    content = dict(getattr(module, "__dict__", {}))
    if not _is_backend(module_name) and self._replaceable.isdisjoint(
        map(id, content.values())):
      return  # As nearly all of some hundreds do.
    for name, value in content.items():
      if not callable(value) or isinstance(value, type):
        continue
      try:
        replacement = self._source.OF_FUNCTIONS.get(value)
      except TypeError:
        continue  # It cannot be hashed.
      if replacement is None and name in self._source.OF_KERAS and (
          _is_backend(module_name)) and value.__module__ != module_name:
        replacement = (None if self._is_replacement(value) else
                       self._source.OF_KERAS[name](value))
      if replacement is not None:
        self._set(module, name, value, replacement)

  def _set(self, holder, name, original, replacement):
    names = getattr(holder, "__all__", None)
    count = len(names) if isinstance(names, list) else None
    setattr(holder, name, replacement)
    if count is not None:
      del names[count:]  # A wrapper of a module adds the name.
    self._replaced.append(_Replaced(holder, name, original, replacement))

  def _is_replacement(self, value):
    return any(value is one.replacement for one in self._replaced)


class _BackendFinder(importlib.abc.MetaPathFinder):
  """Has functions replaced in public modules of Keras that are loaded later."""

  def __init__(self, replace):
    """Takes a function of the name of a module and the module."""
    self._replace = replace

  def find_spec(self, fullname, path, target=None):
    """The spec that other finders give, which replaces after loading."""
    if not (_is_public(fullname) and _is_backend(fullname)):
      return None
    for finder in sys.meta_path:
      find = getattr(finder, "find_spec", None)
      spec = (find(fullname, path, target)
              if find is not None and finder is not self else None)
      if spec is not None:
        if spec.loader is not None:
          spec.loader = _Loader(spec.loader, self._replace)
        return spec
    return None


class _Loader(importlib.abc.Loader):
  """A loader that calls a function with what it has loaded."""

  def __init__(self, loader, then):
    self._loader, self._then = loader, then

  def create_module(self, spec):
    return self._loader.create_module(spec)

  def exec_module(self, module):
    """Executes the module as the loader does, which it is left with."""
    module.__spec__.loader = module.__loader__ = self._loader
    self._loader.exec_module(module)
    # It may have put a wrapper in its own place.
    self._then(module.__name__, sys.modules.get(module.__name__, module))


def _is_public(module_name):
  """Whether a module is one by which TensorFlow or Keras offers functions."""
  parts = module_name.split(".")
  if parts[0] in ("tensorflow", "tensorflow_core"):
    return "python" not in parts or parts[1:4] == ["python", "keras", "api"]
  return parts[0] in ("keras", "tf_keras") and "src" not in parts


def _is_backend(module_name):
  return module_name.split(".")[-1] == "backend"
