"""Inputs and attributes for types of ops that `op_inputs` has no case for."""

import itertools

import numpy as np
import tensorflow.compat.v1 as tf

import op_inputs

_REALS = (tf.float32.as_datatype_enum, tf.float64.as_datatype_enum)
_NO_NUMBERS = (tf.resource.as_datatype_enum, tf.variant.as_datatype_enum,
               tf.string.as_datatype_enum)
_ATTRIBUTES = {"type": tf.float64, "int": 2, "bool": True, "float": 0.5,
               "shape": [3]}
_SHAPES = [(3,), (), (2, 3), (2, 2), (3, 3), (1, 4, 4, 2), (1, 3, 3, 3, 2)]
_WHOLE = [np.array(value, np.int32) for value in (
    1, [0], 0, [0, 1], [1], [0, 1, 0], [4, 4], [2])]


def is_real(op_def, argument):
  """Whether an argument of an op may be a float32 or float64 tensor."""
  if argument.is_ref:
    return False
  if argument.type:
    return argument.type in _REALS
  name = argument.type_attr or argument.type_list_attr
  allowed = [attribute.allowed_values.list.type
             for attribute in op_def.attr if attribute.name == name][0]
  return not allowed or any(real in allowed for real in _REALS)


def guesses(op_def, floating):
  """Arguments for an op that `op_inputs.CASES` does not have.

  Args:
    op_def: OpDef.
    floating: function from an OpDef.ArgDef to whether it may be floating.

  Yields:
    dict of keyword arguments of `tf.raw_ops`.
  """
  arguments = list(op_def.input_arg)
  if len(arguments) > 4 or any(
      argument.number_attr or argument.type_list_attr or argument.is_ref or
      argument.type in _NO_NUMBERS for argument in arguments):
    return
  inferred = {argument.type_attr for argument in arguments}
  attributes = {}
  for attribute in op_def.attr:
    if attribute.name in inferred or attribute.HasField("default_value"):
      continue
    if attribute.type not in _ATTRIBUTES:
      return
    allowed = attribute.allowed_values.list.s
    attributes[attribute.name] = (
        allowed[0].decode() if allowed else _ATTRIBUTES[attribute.type])
  reals = [argument for argument in arguments if floating(argument)]
  shapes = [[shape] * len(reals) for shape in _SHAPES]
  shapes += [list(each) for each in itertools.product(
      _SHAPES[:5], repeat=len(reals))]
  for each in shapes:
    for whole in itertools.product(
        _WHOLE, repeat=len(arguments) - len(reals)):
      remaining, remaining_whole = iter(each), iter(whole)
      yield dict(attributes, **{
          argument.name: (op_inputs.Real(next(remaining), None)
                          if argument in reals
                          else next(remaining_whole))
          for argument in arguments})
