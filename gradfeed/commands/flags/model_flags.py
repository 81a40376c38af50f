"""Defines flags that several commands have: --graph, --y, --x and the like."""

from absl import flags

from gradfeed.models import derivative_choices
from gradfeed.models import loading

# They are listed in the help of the command that has them.
flags.disclaim_key_flags()


def define(flag_values, values=True):
  """Defines --graph and --tags, which name a model.

  Args:
    flag_values: `flags.FlagValues` of the command.
    values: bool; False where the command looks at the graph alone: variables
      are given no values, and nothing of the model is run.

  Returns:
    function without arguments that loads the model, a `loading.Model`.
  """
  graph = flags.DEFINE_string(
      "graph", None, "The model: a frozen graph (.pb, .pbtxt), a checkpoint "
      "(.meta, or its directory), the directory of a SavedModel, or a model of "
      "Keras 2 (.h5).",
      flag_values=flag_values)
  tags = flags.DEFINE_list(
      "tags", None, "The tags of the graph in a SavedModel that has several.",
      flag_values=flag_values)
  load = loading.load if values else loading.load_graph
  return lambda: load(graph.value, tags.value)


def define_y_and_x(flag_values):
  """Defines --y and --x, the names of one tensor each.

  Args:
    flag_values: `flags.FlagValues` of the command.

  Returns:
    (flag of y, flag of x), as absl defines them.
  """
  return flags.DEFINE_string(
      "y", None, "The tensor that is differentiated, such as logits:0. All its "
      "elements are summed, unless --class_index chooses one.",
      flag_values=flag_values), flags.DEFINE_string(
          "x", None, "The tensor that y is differentiated by: an input or any "
          "layer.", flag_values=flag_values)


def define_class(flag_values):
  """Defines --class_index, which selects a class of y.

  Args:
    flag_values: `flags.FlagValues` of the command.

  Returns:
    function from y, a `tf.Tensor`, to the score of that class; or to y itself,
    where the flag is not given.
  """
  index = flags.DEFINE_integer(
      "class_index", None, "Take this element of the last axis of y (the "
      "class).", flag_values=flag_values)
  return lambda y: derivative_choices.element(y, index.value)
