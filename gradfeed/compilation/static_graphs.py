"""A part of a graph at certain shapes, in a form that XLA can compile.

XLA compiles functional loops and branches, at shapes that it knows. What is
computed is built again in a graph of its own, with placeholders of the shapes
of a call; each loop has functions of its own, which take the shapes of what
goes into them. `list_sizes` gives the lists in it their sizes.
"""

import contextlib
import copy
import uuid

from gradfeed import _tf
from gradfeed._tf import tf
from gradfeed.compilation.loops import growing_lists
from gradfeed.compilation.loops import optionals
from gradfeed.compilation.loops import straight_lines
from gradfeed.compilation import nans
from gradfeed.compilation import ranges
from gradfeed.compilation import sizes
from gradfeed.compilation import value_checks
from gradfeed import errors
from gradfeed.graph import effects
from gradfeed.graph import op_types
from gradfeed.graph import traversal
from gradfeed.rewriting import cloning
from gradfeed.rewriting import function_calls
from gradfeed.rewriting import functionalization


#: How many branches after each other are given their shapes.
_MOST_IMPORTS = 10


class StaticGraph:
  """What some tensors need, as a graph of its own with static shapes.

  Attributes:
    variables: list of `tf.Tensor` of the user's graph: the variables that are
      read, or handles of them.
    graph: `tf.Graph` with functional control flow.
    graph_def: GraphDef of it, in which lists have sizes.
    arguments: list of the names of the placeholders in it, for the targets and
      then for the values of the variables.
    results: list of the names of the tensors in it.
    conditions: list of the names of the bool tensors in it that assertions
      want, and that are True where fed values are those that are known.
    fixed: `value_checks.FixedValues` of it.
    checks: `value_checks.Checks`.
    counted: list of the loops in it that values end, and that have to turn as
      often as in a first run.
    has_calls: bool; whether there are loops or branches in it.
  """

  def __init__(self, graph, targets, results, originals, shapes, known=None,
               is_straight=False):
    """Builds it.

    Args:
      graph: `tf.Graph` of the user, not finalized.
      targets: list of `tf.Tensor` that are fed.
      results: list of `tf.Tensor`.
      originals: list of `tf.Tensor` in whose places they are; the results lack
        assertions that are there.
      shapes: list of tuples of int, the shapes of what is fed.
      known: dict from the indices of those targets that have one value only to
        that as an array; `conditions` wants that it is fed.
      is_straight: bool; whether it has no loops and no branches.

    Raises:
      UnsupportedGraphError: what is computed has no such form; names the op.
      NotUnrolled: as `straight_lines.of`.
    """
    fed = {t.name for t in targets}
    conditions = _conditions(traversal.ancestors(originals, fed))
    ops = {name: op for name, op in traversal.ancestors(
        results + conditions, fed).items() if op.type != ranges.CHECKS_ALONE}
    self.variables = [
        op.outputs[0] for op in effects.variables(ops.values())]
    scratch = _tf.scratch_graph()
    with scratch.as_default():
      values = [tf.placeholder(t.dtype.base_dtype, shape)
                for t, shape in zip(targets, shapes)]
      values += [tf.placeholder(*dtype_and_shape(v)) for v in self.variables]
      read = dict(zip([t.name for t in targets + self.variables], values))
      constants = {i: tf.constant(value, values[i].dtype)
                   for i, value in sorted((known or {}).items())}
      read.update((targets[i].name, value) for i, value in constants.items())
      look_up = _build(graph, ops, read)
      outputs = [tf.identity(look_up(t.name)) for t in results]
      outputs += [tf.identity(look_up(t.name)) for t in conditions]
      outputs += [tf.reduce_all(tf.equal(values[i], value))
                  for i, value in constants.items()]
    self.arguments = [value.op.name for value in values]
    self.results = [output.name for output in outputs[:len(results)]]
    self.conditions = [output.name for output in outputs[len(results):]]
    self.graph_def = _with_own_functions(scratch.as_graph_def())
    in_doubt = self._straighten() if is_straight else ()
    nans.pass_on(self.graph_def)
    for _ in range(_MOST_IMPORTS):
      self._import()
      parts = self.graph_def, self.graph, self.bodies_of
      if not self._write_shapes() and not optionals.replace(*parts) and (
          not optionals.write_shapes(*parts)):
        break
    self.fixed = value_checks.FixedValues(
        self.graph, self.bodies_of, in_doubt=in_doubt)
    self.counted = growing_lists.loops_to_count(
        self.graph, self.bodies_of, self.fixed)
    if self.counted:
      self.fixed = value_checks.FixedValues(
          self.graph, self.bodies_of, self.counted)
    self.checks = self.fixed.checks()
    self.has_calls = straight_lines.is_needed(self.graph)

  def _import(self):
    """Makes `graph` of `graph_def`."""
    self.graph, self._bodies = tf.Graph(), {}
    with self.graph.as_default():
      tf.import_graph_def(self.graph_def, name="")

  def _straighten(self):
    """Replaces loops and branches; the names of ops that a run may not have."""
    self._import()
    self.graph_def, made, in_doubt = straight_lines.of(
        self.graph, self.arguments, self.results + self.conditions)
    self.results = made[:len(self.results)]
    self.conditions = made[len(self.results):]
    return in_doubt

  def _write_shapes(self):
    """Writes shapes that branches have into their nodes; whether any is new."""
    nodes = {node.name: node for node in self.graph_def.node}
    is_new = False
    for op in self.graph.get_operations():
      if op.type not in op_types.FUNCTIONAL_BRANCHES or all(
          t.shape.is_fully_defined() for t in op.outputs):
        continue
      bodies = [body for attribute in op_types.FUNCTION_CALLS[op.type].functions
                for body in self.bodies_of(op, attribute)]
      shapes = [body.outputs[i].shape for body in bodies[:1]
                for i in range(len(op.outputs))]
      if any(shape.is_fully_defined() and not t.shape.is_fully_defined()
             for shape, t in zip(shapes, op.outputs)) and all(
                 t.shape.is_compatible_with(shape) for body in bodies
                 for t, shape in zip(body.outputs, shapes)):
        written = nodes[op.name].attr["output_shapes"].list.shape
        del written[:]
        written.extend(shape.as_proto() for shape in shapes)
        is_new = True
    return is_new

  def deciding(self, count):
    """Which of the first `count` arguments decide a shape: list of indices."""
    return sizes.deciding(self.graph, self.arguments[:count], self.bodies_of)

  def refuse(self):
    """Raises UnsupportedGraphError for what is not computed in the same way."""
    if self.checks.refused:
      raise _refused(self.checks.refused)

  def drop_checks(self):
    """Leaves out what does nothing but check a value."""
    _drop_checks(self.graph_def.node)
    for function in self.graph_def.library.function:
      gone = _drop_checks(function.node_def)
      for output, name in list(function.control_ret.items()):
        if name in gone:
          del function.control_ret[output]
      outputs = [name for name in function.signature.control_output
                 if name in function.control_ret]
      del function.signature.control_output[:]
      function.signature.control_output.extend(outputs)

  @contextlib.contextmanager
  def running(self, values, read_variables):
    """A context with a function from tensors to values.

    At other values than those of a call that has ended, a loop might not.

    Args:
      values: list of arrays that were fed, for the first arguments.
      read_variables: function without arguments that gives the values of
        `variables`; not called where nothing is run.
    """
    fed = {}

    def run(fetches):
      if not fed and fetches:
        fed.update((name + ":0", value) for name, value in zip(
            self.arguments, list(values) + list(read_variables())))
      return _tf.session_run(session, fetches, fed) if fetches else []

    with _tf.plain_session(self.graph) as session:
      yield run

  def bodies_of(self, op, attribute):
    """The graphs of the functions that an op names in an attribute: a list."""
    key = op.graph, op.name, attribute
    if key not in self._bodies:
      shapes = [t.shape for t in op.inputs][
          op_types.FUNCTION_CALLS[op.type].first_argument:]
      self._bodies[key] = [
          _tf.function_graph(self.graph, _tf.function_definition(
              self.graph, callee.name), shapes)
          for callee in _tf.callees(op.node_def, [attribute])]
    return self._bodies[key]


def dtype_and_shape(variable):
  """The dtype and the static shape of the value of a variable."""
  if variable.dtype != tf.resource:
    return variable.dtype.base_dtype, variable.shape
  op = variable.op
  return op.get_attr("dtype"), tf.TensorShape(op.get_attr("shape"))


def _conditions(ops):
  """What assertions among `ops` want to be true.

  An assertion in a branch, as `tf.Assert` builds it, is one outside: the branch
  is that in which the condition is false.

  Args:
    ops: dict from name to op.

  Returns:
    list of bool `tf.Tensor`.

  Raises:
    UnsupportedGraphError: an assertion in a loop, or of what is in a branch.
  """
  conditions = []
  for name, op in ops.items():
    if op.type == ranges.CHECKS_ALONE:
      condition = op.inputs[0]
      while condition.op.type in op_types.SWITCHES + ("Identity",):
        condition = condition.op.inputs[0]
      if _tf.is_inside(condition.op):
        raise _refused([(
            "{} '{}'".format(op.type, name),
            "TensorFlow checks a value there that differs from call to call, "
            "and XLA does not")])
      conditions.append(condition)
  return conditions


def _refused(refused):
  """The error for ops that cannot be compiled, as in `value_checks.Checks`."""
  return errors.UnsupportedGraphError(
      "XLA cannot compile {}{}.".format(
          ", ".join(name for name, _ in refused[:3]),
          " and {} more".format(len(refused) - 3) if len(refused) > 3
          else ""),
      "{}.".format(refused[0][1][:1].upper() + refused[0][1][1:]),
      "Leave jit_compile out, or take outputs that do not need it.")


def _build(graph, ops, values):
  """Builds ops in the default graph, with functional control flow.

  Args:
    graph: `tf.Graph` that they are of.
    ops: dict from name to op.
    values: dict from the names of the tensors that are given, variables among
      them, to their values here.

  Returns:
    function from the name of a tensor to the `tf.Tensor` here.
  """
  outside = {name.split(":")[0] for name in values}
  subgraph = cloning.subgraph_of(graph, set(ops) - outside, ops, values)
  nodes, renamed = [], {}
  for node in subgraph.nodes:
    inlined = function_calls.inline_in_graph(graph, node) if (
        node.op in op_types.CALLS) else None
    nodes.extend([node] if inlined is None else inlined[0])
    renamed.update({} if inlined is None else inlined[1])
  function_calls.rename_inputs(nodes, renamed)
  function_calls.drop_outside_waits(nodes)
  known = {function.signature.name for function in subgraph.functions}
  subgraph = subgraph._replace(
      nodes=nodes, renamed=renamed, functions=subgraph.functions + [
          function for function in traversal.functions_called(graph, nodes)
          if function.signature.name not in known])
  if functionalization.is_needed(nodes):
    made = functionalization.emit(
        nodes, values, lambda name: _static_shape(graph, name),
        subgraph.functions)
  else:
    new = cloning.import_subgraph(graph, subgraph, values, "part")
    made = {"{}:{}".format(name, i): tensor for name, op in new.items()
            for i, tensor in enumerate(op.outputs)}

  def look_up(name):
    name = function_calls.last_name(name, renamed)
    return values[name] if name in values else made[name]

  return look_up


def _static_shape(graph, name):
  """The static shape of a tensor of `graph`; unknown for an inlined one."""
  try:
    return graph.get_tensor_by_name(name).shape
  except (KeyError, ValueError):
    return tf.TensorShape(None)


def _with_own_functions(graph_def):
  """A GraphDef in which each op calls functions that nothing else calls.

  Loops take the shapes of what goes into them, and stay functional.
  """
  library = {f.signature.name: f for f in graph_def.library.function}
  # A graph keeps the first of two functions of one name.
  separate, suffix = [], uuid.uuid4().hex[:12]

  def visit(nodes):
    for node in nodes:
      node.attr.pop("_output_shapes", None)
      if node.op in op_types.FUNCTION_CALLS:
        node.attr["_lower_using_switch_merge"].b = False
      if node.op in op_types.FUNCTIONAL_LOOPS:
        del node.attr["output_shapes"].list.shape[:]
      for callee in _tf.callees(node):
        if callee.name in library:
          function = copy.deepcopy(library[callee.name])
          function.signature.name = "{}_jit_{}_{}".format(
              callee.name, suffix, len(separate))
          callee.name = function.signature.name
          for argument in function.arg_attr.values():
            argument.attr.pop("_output_shapes", None)
          separate.append(function)
          visit(function.node_def)

  visit(graph_def.node)
  del graph_def.library.function[:]
  graph_def.library.function.extend(separate)
  del graph_def.library.gradient[:]
  return graph_def


def _drop_checks(nodes):
  """Takes the ops that only check from NodeDefs; returns the set of their names.

  One that also hands its value on becomes an Identity.
  """
  gone = {node.name for node in nodes
          if node.op == ranges.CHECKS_ALONE}
  for node in nodes:
    if node.op in ranges.CHECKED_IDENTITIES:
      node.op = "Identity"
      node.attr.pop("message", None)
  kept = [node for node in nodes if node.name not in gone]
  for node in kept:
    inputs = [name for name in node.input
              if name[0] != "^" or name[1:] not in gone]
    del node.input[:]
    node.input.extend(inputs)
  kept = [copy.deepcopy(node) for node in kept]
  del nodes[:]
  nodes.extend(kept)
  return gone
