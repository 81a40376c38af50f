"""Replaces TensorFlow's functions in a whole process, and puts them back."""

import contextlib
import threading

from gradfeed import errors
from gradfeed.patching import entry_points


class _Process:
  """Who wants the functions of this process replaced.

  Attributes:
    lock: held while that changes.
    is_installed: bool, by `install`.
    blocks: int, the number of blocks of `patched` that are entered.
    is_watched: bool, whether an audit runs, which gradfeed would change.
    entry_points: `entry_points.EntryPoints`.
  """

  lock = threading.RLock()
  is_installed = False
  blocks = 0
  is_watched = False
  entry_points = entry_points.EntryPoints()


def install():
  """Has a whole process use gradfeed, until `uninstall`.

  From now on `tf.gradients` is `gradients`, `tf.hessians` is `hessians`, and
  `tf.Session.run` is `run`, in all modules by which TensorFlow offers them. So
  are what is made of them: `Tensor.eval`, `Operation.run`, and in Keras
  `K.gradients` and `K.function`. Sessions that exist already, and subclasses,
  are included. Gradients of gathers are `tf.IndexedSlices`, as in TensorFlow.

  TensorFlow's own code, such as optimizers, savers, queues and Keras' `fit`,
  goes on using its own functions. What gradfeed does not know is handed to
  TensorFlow.

  Where `from tensorflow import gradients` was executed before, that name is
  still TensorFlow's: call `install` first. A second call changes nothing but
  what was put back by others meanwhile.

  Raises:
    ArgumentError: inside of `audit`, which watches a program as it is.

  Example:
    >>> import gradfeed as gf, tensorflow.compat.v1 as tf
    >>> gf.install()
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...   h = tf.constant(3.0) * 3.0
    ...   print(session.run(tf.exp(-h), {h: 0.0}))
    1.0
    >>> gf.uninstall()
  """
  with _Process.lock:
    _refuse_both(_Process.is_watched)
    _Process.is_installed = True
    _update()


def uninstall():
  """Undoes `install`: TensorFlow's functions are where they were.

  Inside a block of `patched` that is when the last block ends. Where other code
  has replaced one of them meanwhile, that stays.

  Raises:
    Nothing; without `install` before it, it does nothing.

  Example:
    >>> import gradfeed as gf, tensorflow.compat.v1 as tf
    >>> tensorflows_own = tf.gradients
    >>> gf.install()
    >>> gf.uninstall()
    >>> tf.gradients is tensorflows_own
    True
  """
  with _Process.lock:
    _Process.is_installed = False
    _update()


@contextlib.contextmanager
def patched():
  """A context in which the process uses gradfeed, as after `install`.

  It is that of the process, not of the thread. Blocks may be nested, and
  overlap in several threads: the last one that ends puts TensorFlow's functions
  back.

  Raises:
    ArgumentError: inside of `audit`, which watches a program as it is.

  Example:
    >>> import gradfeed as gf, tensorflow.compat.v1 as tf
    >>> with gf.patched(), tf.Graph().as_default(), tf.Session() as session:
    ...   h = tf.constant(3.0) * 3.0
    ...   print(tf.exp(-h).eval({h: 0.0}))
    1.0
  """
  with _Process.lock:
    _refuse_both(_Process.is_watched)
    _Process.blocks += 1
    _update()
  try:
    yield
  finally:
    with _Process.lock:
      _Process.blocks -= 1
      _update()


@contextlib.contextmanager
def unreplaced():
  """A context in which nothing may be replaced, for an audit.

  Raises:
    ArgumentError: something is replaced, or an audit runs already.
  """
  with _Process.lock:
    _refuse_both(_Process.is_installed or _Process.blocks)
    if _Process.is_watched:
      raise errors.ArgumentError(
          "An audit runs already in this process.",
          "Each would count what the other does.",
          "Leave the inner gf.audit() out.")
    _Process.is_watched = True
  try:
    yield
  finally:
    with _Process.lock:
      _Process.is_watched = False


def _refuse_both(is_wanted):
  """Refuses an audit together with `install` or `patched`."""
  if is_wanted:
    raise errors.ArgumentError(
        "gf.audit() and gf.install() or gf.patched() cannot be used together.",
        "An audit watches the program as TensorFlow runs it, and they have "
        "gradfeed run it.",
        "Take gf.install() or gf.patched() out for the audit, or call "
        "gf.uninstall() before it.")


def _update():
  """Replaces or puts back, as it is wanted now."""
  if _Process.is_installed or _Process.blocks:
    _Process.entry_points.replace()
  else:
    _Process.entry_points.restore()
