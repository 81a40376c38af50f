"""Calls the public functions with bad arguments, and counts what comes of it.

  python scripts/fuzz_arguments.py --calls=4000 --seed=0

Each call has one to three of its arguments replaced by something that may not
fit. It may succeed, or raise an error of gradfeed and leave the graph as it
was. Any other exception, and any op that a refused call leaves, is listed, and
the status is then 1.
"""

import collections
import inspect
import os
import random
import sys
import traceback
import warnings

from absl import app
from absl import flags
import numpy as np
import tensorflow.compat.v1 as tf

if __name__ == "__main__":
  sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(
      __file__))))

import gradfeed as gf  # pylint: disable=wrong-import-position

#: How many calls share a graph.
_CALLS_PER_GRAPH = 40

#: How many failures are listed with their traceback.
_MOST_LISTED = 40


class Subject:
  """A small graph with a session, and good calls of every public function."""

  def __init__(self):
    self.graph = tf.Graph()
    with self.graph.as_default():
      self.x = tf.placeholder(tf.float32, [None, 3], name="x")
      self.free = tf.placeholder(tf.float32, name="free")
      self.labels = tf.placeholder(tf.int32, [None], name="labels")
      self.text = tf.placeholder(tf.string, [None], name="text")
      self.sparse = tf.sparse_placeholder(tf.float32, [2, 3], name="sparse")
      self.weight = tf.get_variable("w", initializer=np.ones([3, 2], "f"))
      self.unset = tf.get_variable("unset", initializer=1.0)
      self.logits = tf.tanh(tf.matmul(self.x, self.weight), name="logits")
      self.loss = tf.reduce_sum(self.logits ** 2, name="loss")
      self.kl = tf.reduce_sum(
          (tf.stop_gradient(self.logits) - self.logits) ** 2)
      self.product = tf.matmul(self.free, self.weight, name="product")
      self.one_hot = tf.one_hot(self.labels, 2)
      self.sparse_sum = tf.sparse_reduce_sum(self.sparse)
      self.update = tf.assign_add(self.weight, np.ones([3, 2], "f"))
      self.session = tf.Session()
      self.session.run(self.weight.initializer)
      self.f = gf.function(self.x, gf.gradient(self.loss, self.x),
                           self.session)
      self.two = gf.function([self.x, self.labels], [
          self.logits, self.one_hot], self.session)
      self.raw = gf.function(self.free, self.product, self.session)
      self.clone = gf.snapshot(self.session)
    with tf.Graph().as_default():
      self.foreign = tf.placeholder(tf.float32, [None, 3], name="x")
      self.other_session = tf.Session()
      self.closed = tf.Session()
      self.closed.close()
    self.at = np.ones([2, 3], np.float32)

  def close(self):
    """Closes the sessions."""
    self.clone.close()
    self.session.close()
    self.other_session.close()

  def calls(self):
    """The good calls.

    Returns:
      dict from what is called to (function, list of arguments by position, dict
      of arguments by name).
    """
    y, x, at = self.logits, self.x, self.at
    options = {"stop_gradients": None, "unconnected": "error"}
    more = dict(options, chunk=None)
    seen = dict(options, grad_ys=None, sparse=False, flat=False)
    flat = {"stop_gradients": None, "flat": False}
    held = {"session": self.session, "x0": at, "unconnected": "error",
            "feed_dict": {self.weight.name: np.ones([3, 2], "f")}}
    run = {"feed_dict": {x: at}, "points": (), "timeout": None}
    return {
        "gradient": (gf.gradient, [y, x], seen),
        "value_and_gradient": (gf.value_and_gradient, [y, x], seen),
        "gradients": (gf.gradients, [y, x], {
            "grad_ys": None, "name": "g", "stop_gradients": None,
            "colocate_gradients_with_ops": False, "gate_gradients": False,
            "aggregation_method": None, "unconnected_gradients": "none"}),
        "vjp": (gf.vjp, [y, x, y], dict(options, sparse=False, flat=False)),
        "jvp": (gf.jvp, [y, x, x], dict(options, flat=False)),
        "jacobian": (gf.jacobian, [y, x], dict(
            more, flat=False, mode="auto", sparsity=None, sparse=False)),
        "batch_jacobian": (gf.batch_jacobian, [y, x],
                           dict(more, coupled=False)),
        "class_gradient": (gf.class_gradient, [y, x, self.labels],
                           dict(options, axis=-1)),
        "hessian": (gf.hessian, [self.loss, x], {
            "stop_gradients": None, "chunk": None, "flat": False,
            "sparsity": None, "sparse": False}),
        "hessians": (gf.hessians, [self.loss, [x]], {}),
        "hvp": (gf.hvp, [self.loss, x, x], flat),
        "flatten": (gf.flatten, [{"y": y, "x": [x]}], {}),
        "unflatten": (gf.unflatten, [np.zeros(6), self.weight], {}),
        "gauss_newton_vector_product": (gf.gauss_newton_vector_product, [
            self.loss, y, x, x], flat),
        "fisher_vector_product": (gf.fisher_vector_product, [
            self.kl, y, x, x], flat),
        "scipy_objective": (gf.scipy_objective, [self.loss, x], held),
        "minimize": (gf.minimize, [self.loss, x], dict(
            held, method="CG", bounds=None, constraints=(), tol=0.1,
            callback=None, options={"maxiter": 1}, progress=False)),
        "per_example_gradient": (gf.per_example_gradient, [y, self.weight],
                                 dict(more, coupled=False)),
        "function": (gf.function, [x, y], {
            "session": self.session, "feed_dict": {}, "points": (),
            "timeout": None, "chunk": None}),
        "run": (gf.run, [self.session, y], run),
        "snapshot": (gf.snapshot, [self.session], {}),
        "explain": (gf.explain, [y, x], {"stop_gradients": None}),
        "check": (gf.check, [self.loss, x, at], {
            "session": self.session, "feed_dict": None, "gradient": None,
            "order": 1, "seed": 0}),
        "Function": (self.f, [at], {"feed_dict": None}),
        "Function of two": (self.two, [at, [0, 1]], {"feed_dict": None}),
        "Function of any shape": (self.raw, [at], {"feed_dict": {}}),
        "Function.require_rows": (self.f.require_rows, [at], {}),
        "Function.arguments": (self.two.arguments, [[at, [0, 1]]], {}),
        "Function.between": (self.f.between, [[x], [y]], {}),
        "Snapshot.tensor": (self.clone.tensor, [x], {}),
        "gradient of several": (gf.gradient, [
            {"a": y, "b": [self.loss]}, [x, self.weight]], seen),
        "gradient by names": (gf.gradient, ["logits:0", "x:0"], seen),
        "jvp of several": (gf.jvp, [[y, self.loss], (x, self.weight), (
            x, self.weight)], options),
        "jacobian of several": (gf.jacobian, [[y], [x, self.weight]], more),
        "batch_jacobian of several": (gf.batch_jacobian, [[y], [x]],
                                      dict(more, coupled=False)),
        "function of several": (gf.function, [
            [x, {"a": self.labels}], {"y": y, "b": [self.one_hot]}], {
                "session": self.session, "feed_dict": {}, "points": (y,),
                "timeout": 9.0, "chunk": 2}),
        "function at a layer": (gf.function, [y, gf.gradient(self.loss, y)], {
            "session": self.session, "feed_dict": {}, "points": (y,),
            "timeout": None, "chunk": None}),
        "run of several": (gf.run, [self.session, {
            "y": [y, "loss:0"], "sum": self.sparse_sum, "update": self.update
        }], {"feed_dict": {x: at, self.sparse: ([[0, 0]], [1.0], [2, 3])},
             "points": (), "timeout": None}),
        "run with any shape": (gf.run, [self.session, self.product], {
            "feed_dict": {self.free: at}, "points": (), "timeout": None}),
        "check of second order": (gf.check, [self.loss, x, at], {
            "session": self.session, "feed_dict": {}, "order": 2, "seed": 1}),
    }

  def junk(self):
    """What may stand in the place of an argument, as functions that make it."""
    x, at = self.x, self.at
    return [
        lambda: None, lambda: 3, lambda: -1, lambda: 0, lambda: 2.5,
        lambda: True, lambda: float("nan"), lambda: float("inf"),
        lambda: 10 ** 30, lambda: 1j, lambda: "a", lambda: "x:0",
        lambda: "loss", lambda: "", lambda: "a:b:c", lambda: "\x1b[1m\0",
        lambda: b"x", lambda: bytearray(b"x"), list, tuple, dict, set,
        lambda: [None], lambda: [[]], lambda: [[x], [[self.loss]]],
        lambda: {"a": x}, lambda: {x: at}, lambda: {3: 4}, lambda: {None: 1},
        lambda: {x: None}, lambda: {x: x}, lambda: {"x:0": at, x: at},
        lambda: {self.labels: "a"}, lambda: {self.loss: 1.0},
        lambda: {self.foreign: at}, lambda: {self.weight: at},
        lambda: {self.sparse: 3}, lambda: {self.sparse: (1, 2, 3)},
        lambda: {self.text: [1]}, lambda: {(): 1}, lambda: {x: [[1], [1, 2]]},
        object, lambda: object, lambda: len, lambda: (i for i in range(3)),
        lambda: iter([x]), lambda: range(3), lambda: Ellipsis,
        lambda: slice(3), lambda: ValueError("no"), lambda: {x},
        lambda: np.ones(3), lambda: np.ones([2, 4]), lambda: np.ones([0, 3]),
        lambda: np.float32(1), lambda: np.int64(2), lambda: np.str_("x:0"),
        lambda: np.array("a"), lambda: np.array([None, 1], object),
        lambda: np.array([1, 2]), lambda: np.full([2, 3], np.nan),
        lambda: np.full([2, 3], 1e300), lambda: _array_of_objects(x),
        lambda: np.datetime64("2020-01-01"), lambda: np.ma.masked,
        lambda: np.zeros(2, [("a", "i4")]), lambda: memoryview(b"abc"),
        lambda: [[1.0], [1.0, 2.0]], lambda: [x, 3], lambda: [x, x],
        lambda: [1.0, "a"], lambda: [at.tolist()], lambda: at.tolist(),
        lambda: x, lambda: self.loss, lambda: self.logits, lambda: self.free,
        lambda: self.labels, lambda: self.text, lambda: self.sparse,
        lambda: self.weight, lambda: self.unset, lambda: self.product,
        lambda: self.foreign, lambda: x.op, lambda: self.update,
        lambda: self.graph, lambda: self.session, lambda: self.other_session,
        lambda: self.closed, lambda: tf.float32, lambda: tf.TensorShape([2]),
        lambda: tf, lambda: gf.gradient, lambda: self.f, lambda: [self.f],
        lambda: tf.SparseTensorValue([[0, 0]], [1.0], [2, 3]),
        lambda: tf.GradientTape, lambda: [self.loss, None], lambda: (x,),
        lambda: collections.OrderedDict(b=x, a=self.loss),
        lambda: tf.IndexedSlices(x, self.labels), lambda: NotImplemented,
        lambda: lambda: x, lambda: {"a": {"b": [x, self.loss]}},
    ]


#: What came of one call.
#:   kind: str, "returned", the name of an error of gradfeed, "raw" or
#:     "left ops".
#:   text: str, the call, and the exception with its innermost lines.
Outcome = collections.namedtuple("Outcome", ["kind", "text"])


def outcome_of(subject, generator):
  """Makes one call with bad arguments.

  Args:
    subject: `Subject`.
    generator: `random.Random`.

  Returns:
    `Outcome`.
  """
  name, (function, positional, named) = generator.choice(
      sorted(subject.calls().items(), key=lambda item: item[0]))
  positional, named = list(positional), dict(named)
  places = list(range(len(positional))) + sorted(named)
  with subject.graph.as_default():
    for place in generator.sample(places, min(
        len(places), generator.choice([1, 1, 1, 2, 3]))):
      junk = generator.choice(subject.junk())()
      if isinstance(place, int):
        positional[place] = junk
      else:
        named[place] = junk
  if generator.random() < 0.05:
    positional.append(generator.choice(subject.junk())())
  call = "{}({})".format(name, ", ".join(
      [_shorten(value) for value in positional] +
      ["{}={}".format(key, _shorten(value)) for key, value in named.items()]))
  try:
    inspect.signature(function).bind(*positional, **named)
  except TypeError:
    return Outcome("not a call", call)
  with subject.graph.as_default(), subject.session.as_default():
    before = len(subject.graph.get_operations())
    try:
      function(*positional, **named)
      return Outcome("returned", call)
    except gf.GradfeedError as error:
      kind, text = type(error).__name__, str(error)
    except Exception as error:  # pylint: disable=broad-except
      frames = traceback.extract_tb(sys.exc_info()[2])
      return Outcome("raw", "{}\n    {}: {}\n    {}".format(
          call, type(error).__name__, str(error).split("\n")[0],
          " < ".join("{}:{}".format(os.path.basename(frame[0]), frame[1])
                     for frame in reversed(frames[-8:]))))
    added = [op.name for op in subject.graph.get_operations()[before:]]
  if added:
    return Outcome("left ops", "{}\n    {}\n    {} ops: {}".format(
        call, text.replace("\n", "\n    "), len(added), ", ".join(added[:5])))
  return Outcome(kind, call)


def _array_of_objects(value):
  """An array with one element, which is `value` itself."""
  array = np.empty(1, object)
  array[0] = value
  return array


def _shorten(value):
  """The repr of an argument in at most 70 characters."""
  text = " ".join(repr(value).split())
  return text if len(text) <= 70 else text[:67] + "..."


def outcomes(count, seed):
  """Makes `count` calls.

  Args:
    count: int.
    seed: int; the same one makes the same calls.

  Returns:
    list of `Outcome`.
  """
  generator = random.Random(seed)
  results, subject = [], None
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    for i in range(count):
      if i % _CALLS_PER_GRAPH == 0:
        if subject is not None:
          subject.close()
        subject = Subject()
      results.append(outcome_of(subject, generator))
    subject.close()
  return results


def main(argv):
  if len(argv) > 1:
    raise app.UsageError("not a flag: {}".format(" ".join(argv[1:])))
  tf.disable_eager_execution()
  tf.logging.set_verbosity(tf.logging.ERROR)
  results = outcomes(flags.FLAGS.calls, flags.FLAGS.seed)
  failures = [result for result in results
              if result.kind in ("raw", "left ops")]
  for failure in failures[:_MOST_LISTED]:
    print("{}: {}".format(*failure))
  for kind, count in collections.Counter(
      result.kind for result in results).most_common():
    print("{:6d} {}".format(count, kind))
  print("{} calls, {} failures".format(len(results), len(failures)))
  return 1 if failures else 0


if __name__ == "__main__":
  flags.DEFINE_integer("calls", 4000, "How many calls to make.", lower_bound=1)
  flags.DEFINE_integer("seed", 0, "The seed of the random arguments.")
  app.run(main)
