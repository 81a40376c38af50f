"""The flags that divide a data set into shards, and say who evaluates them."""

from absl import flags

from gradfeed import errors

# They are listed in the help of the command that has them.
flags.disclaim_key_flags()


class ShardFlags:
  """--shards, --workers, --threads, --runner and --estimate.

  Attributes:
    options: list of str, the arguments after "--", which are Beam's.
  """

  def __init__(self, flag_values):
    """Defines the flags.

    Args:
      flag_values: `flags.FlagValues` of the command.
    """
    self.options = []
    self._shards = flags.DEFINE_integer(
        "shards", None, "Write results in so many files, as "
        "gradients-00003-of-00200.npy: each is evaluated by one worker, done "
        "once, and goes on after an interruption. Without it, as many as there "
        "are files of points.", lower_bound=1, flag_values=flag_values)
    self._workers = flags.DEFINE_integer(
        "workers", None, "Evaluate shards in so many processes of this "
        "machine.", lower_bound=1, flag_values=flag_values)
    self._threads = flags.DEFINE_integer(
        "threads", 1, "How many threads of TensorFlow a worker has.",
        lower_bound=1, flag_values=flag_values)
    self._runner = flags.DEFINE_string(
        "runner", None, "Evaluate shards by a pipeline of Apache Beam with this "
        "runner, such as FlinkRunner or DataflowRunner; options of Beam follow "
        "after '--'.", flag_values=flag_values)
    self._estimate = flags.DEFINE_integer(
        "estimate", None, "Write nothing: measure one chunk here, and say what "
        "so many workers would take.", lower_bound=1, flag_values=flag_values)

  @property
  def are_given(self):
    """bool, whether shards are asked for."""
    return any(flag.value is not None for flag in (
        self._shards, self._workers, self._runner, self._estimate))

  @property
  def shards(self):
    """int, how many shards; None for as many as there are files."""
    return self._shards.value

  @property
  def workers(self):
    """int, how many processes; 1 where the flag is not given."""
    return self._workers.value or 1

  @property
  def threads(self):
    """int, the threads of a worker."""
    return self._threads.value

  @property
  def runner(self):
    """str, the runner of Beam, or None."""
    return self._runner.value

  @property
  def estimate(self):
    """int, for how many workers the time is estimated; None to write."""
    return self._estimate.value

  def check(self):
    """Refuses flags that do not go together.

    Raises:
      ArgumentError: with the flags.
    """
    if self.options and self._runner.value is None:
      raise errors.ArgumentError(
          "{} after '--' belongs to nobody.".format(" ".join(self.options)),
          "What stands there are options of Beam, and there is no --runner.",
          "Add --runner=DirectRunner, or the one that is meant.")
    if self._runner.value is not None and self._workers.value is not None:
      raise errors.ArgumentError(
          "--runner={} and --workers={} do not go together.".format(
              self._runner.value, self._workers.value),
          "The workers are those of the runner.",
          "Leave out --workers, and tell the runner after '--', as in "
          "-- --direct_num_workers={}.".format(self._workers.value))
