"""`explain`: reports what a derivative will be, before it is built."""

import collections

from gradfeed import _tf
from gradfeed.analysis import blockers
from gradfeed.analysis import disconnection
from gradfeed.analysis import gradient_flow
from gradfeed.branches import folding
from gradfeed.derivatives import arguments
from gradfeed.derivatives import preconditions
from gradfeed import errors
from gradfeed.evaluation.inputs import feed_dicts
from gradfeed.explaining import drawing
from gradfeed.explaining import gradient_paths
from gradfeed.explaining import pages
from gradfeed.explaining import pitfalls
from gradfeed.explaining import reductions
from gradfeed.explaining import run_requirements
from gradfeed import findings
from gradfeed.graph import cache
from gradfeed.graph import effects
from gradfeed.graph import tensors
from gradfeed.graph import traversal

GOOD, PARTLY, NONE = (
    "differentiable", "partly differentiable", "not differentiable")


class Explanation(findings.FindingsReport):
  """What `explain` found out; printed, it is a page of one screen.

  Attributes:
    verdict: "differentiable", "partly differentiable" (what x does through
      some ops is no part of the gradient) or "not differentiable".
    summary: str, the sentence that goes with it.
    findings: list of `gradfeed.Finding`, the worst first.
    y, x: lists of the names of the tensors.
  """

  def __init__(self, verdict, summary, all_findings, ys, xs, paths):
    """Holds what was found.

    Args:
      verdict: str.
      summary: str.
      all_findings: list of `findings.Finding`.
      ys: list of `tensors.Dense`.
      xs: list of `tensors.Dense`.
      paths: `gradient_paths.GradientPaths`.
    """
    super().__init__(verdict, summary, all_findings)
    self.y = [y.name for y in ys]
    self.x = [x.name for x in xs]
    self._paths = paths

  def to_dot(self):
    """The ways from x to y as a graph in the language of Graphviz.

    Returns:
      str, for the program `dot`. Ops that stop gradients are red; chains, and
      in a large graph name scopes, are one box.
    """
    return drawing.dot(drawing.Drawing(self._paths))

  def to_html(self):
    """The page with a picture of the ways from x to y.

    Returns:
      str, an HTML document that needs nothing else: no network, no script.
    """
    return pages.html(self, drawing.Drawing(self._paths))

  def to_dict(self):
    """All of the page, for programs.

    Returns:
      dict of what JSON can hold: that of every page, the names of x and y, and
      "way", all ops between them with what becomes of the gradient there.
    """
    return dict(super().to_dict(),
                x=self.x,
                y=self.y,
                way=self._paths.to_dict())


def explain(y, x=None, stop_gradients=None, feed_dict=None):
  """Tells what d sum(y) / dx will be, or why there is none, and adds no op.

  Looks at the graph alone: nothing is run. Found are ops that let no gradient
  pass, or of which TensorFlow has no gradient or a wrong one, in loops,
  branches and functions too; what y sums or averages over; the placeholders to
  feed, with likely values; variables that are read; what makes two runs differ
  (random numbers, iterators and queues, assignments); and constructions that
  often mean something else: rows that depend on each other, a column minus a
  row, the logarithm of a softmax, a tensor that is an old copy.

  Args:
    y: as in `gradient`.
    x: as in `gradient`; or None for the floating placeholders that y depends
      on differentiably, or, if there are none, the variables.
    stop_gradients: as in `gradient`.
    feed_dict: dict from tensors or names to the values that they will have in
      the run; what lies in a branch that is not taken then is left out, and a
      placeholder with a default that is not among them has its default. None
      where that is not known.

  Returns:
    `Explanation`: printed, a page to read; `.is_bad`, `.findings`,
    `.to_json()` and `.to_dict()` for programs; `.to_dot()` and `.to_html()`
    with a picture of the ways from x to y.

  Raises:
    GraphMismatchError, EagerModeError, TensorNotFoundError, ArgumentError:
      what was passed is not a tensor of one graph.
    FeedError: a key of `feed_dict` or its value does not fit.

  Example:
    >>> import gradfeed as gf, tensorflow.compat.v1 as tf
    >>> with tf.Graph().as_default():
    ...   x = tf.placeholder(tf.float64, [], name="x")
    ...   y = tf.add(tf.floor(x, name="steps"), x * x, name="y")
    ...   report = gf.explain(y, x)
    >>> print(report.verdict, report.is_bad, report.findings[0].names)
    partly differentiable False ['steps']
  """
  of_y = arguments.Request(y, y, stop_gradients)
  fed = feed_dicts.held_values(feed_dicts.resolve_feeds(
      feed_dict, of_y.graph), strict=True)
  if x is None:
    x = _candidates(of_y, fed)
  request = arguments.Request(y, x, stop_gradients)
  product = request.product([None] * len(request.ys))
  with cache.cache_of(request.graph).lock:
    return _explanation(product, fed, feed_dict is not None)


def _candidates(request, given):
  """The tensors to differentiate y by where the caller names none.

  They are placeholders and what iterators and queues give, or else variables,
  on a differentiable path to y; where there are none, all of these that y
  depends on. What is in `given` gets its value otherwise.
  """
  ys = [component for y in request.ys for component in y.differentiable()]
  ops = traversal.ancestors([y.tensor for y in ys], set(given))
  fed = [t for t in effects.placeholders(ops) if _tf.is_number(t.dtype) and
         t.name not in given and run_requirements.likely_value(t) is None]
  fed += [t for given in run_requirements.given_by_sources(
      ops, [y.tensor for y in ys]).values() for t in given
          if _tf.is_number(t.dtype)]
  read = [op.outputs[0] for op in effects.variables(ops.values())]
  for candidates in (fed, read):
    trace = gradient_flow.GradientTrace([y.tensor for y in ys], candidates,
                                        [stop.tensor for stop in request.stops])
    reached = [t for t in candidates if t.name in trace.tensors]
    if reached:
      return reached
  if fed + read:
    return fed + read
  raise errors.ArgumentError(
      "There is nothing to differentiate {} by.".format(
          tensors.describe_all(ys)),
      "It depends on no placeholder of floating numbers, and no variable.",
      "Pass the tensor that is meant as x.")


def _explanation(product, fed, is_complete):
  """The `Explanation` of a product of a cotangent and a Jacobian.

  Args:
    product: `derivatives.vjps.VJP`.
    fed: dict from the names of tensors to the values that they have in the run.
    is_complete: bool, whether no other tensor is fed but the xs.
  """
  flow = preconditions.flow_of(product, product.trace())
  problems = list(preconditions.find_problems(product, flow))
  run = _Run(product, fed, is_complete)
  if run.folded is not None:  # The graph itself decides what can be built.
    flow = preconditions.flow_of(product, product.trace(run.folded))
  blocking = [blocker.finding() for op, inner in flow.traces
              for blocker in blockers.find_blockers(inner, op)]
  if any(problem.kind == "disconnected" for problem in problems):
    reported = {name for problem in problems for name in problem.names}
    blocking = [finding for finding in blocking
                if finding.names[0] not in reported]
  paths = gradient_paths.GradientPaths(flow, product.ys, product.xs)
  partial = run.in_functions(_assignments_between(product))
  all_findings = problems + blocking + list(
      _more_findings(product, flow, paths, partial, run))
  verdict = NONE if problems else PARTLY if partial or any(
      finding.severity == findings.WARNING for finding in blocking) else GOOD
  return Explanation(
      verdict, _summary(product, verdict, all_findings), all_findings,
      product.ys, product.xs, paths)


class _Run:
  """What a run computes.

  Attributes:
    fed: set of the names of the tensors that get a value.
    ops: dict from name to op.
    folded: `branches.folding.Folding` or None.
  """

  def __init__(self, product, fed, is_complete):
    """Finds the ops; the arguments are those of `_explanation`."""
    ys = [y.tensor for y in product.ys]
    self.fed = {x.name for x in product.xs if not x.is_variable}.union(fed)
    cut = self.fed - {
        t.name for t in effects.placeholders(traversal.ancestors(ys))}
    self.ops = traversal.ancestors(ys, cut)
    self.folded, _ = folding.fold(
        ys, self.ops, dict(dict.fromkeys(self.fed), **fed), cut, is_complete)
    if self.folded is not None:
      self.ops = self.folded.ops

  def in_functions(self, names):
    """Those of the ops called `names` that assign when this runs."""
    if self.folded is None:
      return names
    return names & {op.name for op in effects.assigning_ops(
        self.ops, self.folded)}


def _assignments_between(product):
  """The names of the assignments by which an x reaches what a y reads."""
  ys = [y.tensor for y in product.ys]
  ops, read, names = traversal.ancestors(ys), _read_by(ys), set()
  for x in product.xs:
    for op in disconnection.assignments(x, ops):
      if op.name in ops:
        after = traversal.descendants(ops, (), start=[op.name]) & read
        sources = [t.op for name in after for t in ops[name].inputs]
        if op.name in after or op.inputs[0].op in sources:
          names.add(op.name)
  return names


def _read_by(ys):
  """The names of the ops whose results `ys` are computed from.

  An op that y only waits for is not among them.
  """
  names, queue = set(), [y.op for y in ys]
  while queue:
    op = queue.pop()
    if op.name not in names:
      names.add(op.name)
      queue.extend(t.op for t in op.inputs)
  return names


def _more_findings(product, flow, paths, partial, run):
  """Yields the findings that do not decide whether there is a derivative."""
  trace, ys = flow.trace, [y.tensor for y in product.ys]
  ops, cut = run.ops, run.fed
  yield from preconditions.wrong_at_values(flow)
  yield from pitfalls.find_pitfalls(flow, product.ys, product.xs)
  for y in product.ys:
    yield from reductions.describe_reduction(y, product.xs, trace)
  yield from run_requirements.find_unsteady_ops(
      ops, ys, cut, partial, run.folded)
  yield from _path_finding(paths)
  yield from run_requirements.find_needed_feeds(ops, cut)
  yield from run_requirements.find_variables(ops, ys, run.folded)
  yield from _choice_finding(flow)
  yield from _merge_by_type(
      preconditions.second_derivative_problems(product, flow))


def _merge_by_type(op_findings):
  """Merges findings about ops of one type into one with all their names."""
  first = collections.OrderedDict()
  for finding in op_findings:
    first.setdefault(finding.details["type"], finding).names.extend(
        name for name in finding.names
        if name not in first[finding.details["type"]].names)
  return list(first.values())


def _path_finding(paths):
  """Yields a finding with the shortest path, or nothing if there is none."""
  if not paths.shortest():
    return
  passed = paths.passed()
  types = collections.Counter(node.type for node in passed)
  common = ", ".join(
      "{} {}".format(count, kind) for kind, count in types.most_common(4))
  text = "The way: {}.".format(paths.describe_shortest())
  if len(passed) > len(paths.shortest()):
    text = "{} ops pass a gradient ({}{}). The shortest way: {}.".format(
        len(passed), common, ", ..." if len(types) > 4 else "",
        paths.describe_shortest())
  yield findings.Finding(
      "way", findings.NOTE, text, "", "",
      [node.name for node in paths.shortest()], ops=len(passed),
      types=dict(types))


def _choice_finding(flow):
  """Yields a finding if x decides by a comparison or an index."""
  choices = [blocker for op, trace in flow.traces
             for blocker in blockers.find_choices(trace, op)]
  if choices:
    yield findings.Finding(
        "choice", findings.NOTE, "x decides by {}{} which values are "
        "taken.".format(", ".join(choice.describe() for choice in choices[:3]),
                        " and {} more".format(len(choices) - 3)
                        if len(choices) > 3 else ""),
        "The gradient is that of the values that are taken.", "",
        [choice.culprit.name for choice in choices])


def _summary(product, verdict, all_findings):
  """The sentence that goes with the verdict."""
  what = "{} by {}".format(_describe(product.ys), _describe(product.leaves))
  worst = [finding for finding in all_findings if finding.severity == (
      findings.BAD if verdict == NONE else findings.WARNING)]
  if verdict == NONE:
    return "{}; {}.".format(what, _counted(worst, "reason"))
  if worst:
    return "{}; {} to mind.".format(what, _counted(worst, "thing"))
  return what + "."


def _describe(points):
  """A few tensors in words, and how many more there are."""
  return tensors.describe_all(points[:3]) + (
      " and {} more".format(len(points) - 3) if len(points) > 3 else "")


def _counted(items, noun):
  return "{} {}{}".format(
      len(items), noun, "" if len(items) == 1 else "s")
