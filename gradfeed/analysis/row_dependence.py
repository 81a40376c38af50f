"""Which rows of a tensor one row of a result depends on.

The answer is found from the types of the ops alone, walking back from y with
demands (`row_demands`). An op that reads row b of its operand for row b of its
result hands the demand for rows on, along the axis that the rows have there; an
op that mixes rows turns it into a demand for the whole operand. Where no rule
for an op, or too little of its shapes, is known, the walk stops, and the op is
listed as unknown.
"""

import collections

from gradfeed.analysis import dependence_rules
from gradfeed.analysis import row_demands
from gradfeed.analysis import symbolic_shapes
from gradfeed.graph import op_types
from gradfeed.graph import traversal


class RowDependence:
  """Where the rows of `ys` are in the tensors that `ys` are computed from.

  A dimension that is not known statically is taken for the number of rows
  where it meets rows: it is not 1 and broadcast when the graph runs.

  Attributes:
    axes: dict from the name of each tensor that is read row by row to the axis
      of its rows.
    blocks: dict from the name of each tensor in which a row is more than one
      place of an axis to (axis, m): places b * m to b * m + m - 1, or, if m is
      None, rows interleaved or of a length that differs from run to run.
    whole: dict from the name of each tensor that is read as a whole for one
      row to the op that reads it. A size of the batch that is used as a number
      is here as the output of a Shape or a Size.
    picked: set of the names in `whole` that are perhaps not read as a whole:
      rows are picked from them by index.
    shapes: dict from the name of each tensor whose value settles a shape, an
      axis or a position to the op that reads it. Data among them changes the
      result, though not along the rows.
    readers: dict from each name in `axes` or `blocks` to the op that reads
      its rows; None for `ys`.
    unknown: list of those of the ops, the nearest to y first, that no rule
      decides. They add none of their inputs to the attributes above.
  """

  def __init__(self, ys, ops, axis=0, folded=None):
    """Walks back from `ys`.

    Args:
      ys: list of `tf.Tensor` with rows along `axis`.
      ops: dict from name to `tf.Operation`, the ops to pass through. A demand
        for an output of another op is noted and goes no further.
      axis: int, not negative.
      folded: `branches.folding.Folding`, so that what joins branches of which
        one is taken hands its rows on; or None.
    """
    self.axes, self.blocks, self.whole, self.shapes = {}, {}, {}, {}
    self.readers, self.picked, self.unknown = {}, set(), []
    self._rows = {}
    self._seen = set()
    self._sizes = symbolic_shapes.Sizes(dependence_rules.demands)
    self._queue = collections.deque()
    for y in ys:
      self._demand(y, row_demands.RowDemand(
          axis, symbolic_shapes.ONE, symbolic_shapes.ONE), None)
    while self._queue:
      tensor, demand = self._queue.popleft()
      op = tensor.op
      if op.name not in ops:
        continue
      taken = None if folded is None else folded.taken(tensor)
      if taken is not None:
        self._demand(taken, demand, op)
        continue
      demands = dependence_rules.demands(op, tensor.value_index, demand,
                                         self._sizes)
      if demands is None:
        if op not in self.unknown:
          self.unknown.append(op)
        continue
      for source, wanted in zip(op.inputs, demands):
        self._demand(source, wanted, op)

  def _demand(self, tensor, demand, reader):
    """Notes what the op `reader` wants of `tensor`, and queues what is new."""
    name = tensor.name
    if isinstance(demand, row_demands.RowDemand):
      if self._rows.setdefault(name, demand) != demand:
        # Rows along two axes: together they are all of the tensor.
        demand = row_demands.WHOLE
    covered = demand == row_demands.PICKED and (
        name, row_demands.WHOLE) in self._seen
    if demand is None or covered or (name, demand) in self._seen:
      return
    self._seen.add((name, demand))
    self._queue.append((tensor, demand))
    if demand == row_demands.SHAPE:
      self.shapes[name] = reader
    elif demand == row_demands.PICKED:
      self.whole[name] = reader
      self.picked.add(name)
    elif demand == row_demands.WHOLE:
      self.whole[name] = reader
      self.picked.discard(name)
    else:
      self.readers[name] = reader
      axis, outer, size = demand
      if outer == size == symbolic_shapes.ONE:
        self.axes[name] = axis
      else:
        simple = outer == symbolic_shapes.ONE and not size.symbols
        self.blocks[name] = axis, size.number if simple else None


def coupling(ys, x, ops, folded=None, only_certain=False):
  """Whether row b of each of `ys` depends on row b of `x` alone.

  Args:
    ys: list of `tf.Tensor`, shape `[B, ...]`.
    x: `tf.Tensor`, shape `[B, ...]`.
    ops: dict from name to `tf.Operation`, the ops on a differentiable path
      from `x` to `ys` and no others.
    folded: as in `RowDependence`; `ops` may then have others.
    only_certain: bool, whether rows that one branch of a conditional mixes, and
      perhaps not the other, are "unknown" and not "coupled".

  Returns:
    ("independent", None); ("coupled", the op that mixes the rows); or
    ("unknown", the first op that no rule decides).
  """
  if folded is not None:
    names = folded.dependents_among(set(ops), {x.name})
    ops = {name: op for name, op in ops.items() if name in names}
  rows = RowDependence(ys, ops, folded=folded)
  on_path = {t.name for op in ops.values() for t in op.outputs} | {x.name}
  whole = [(name, op) for name, op in rows.whole.items() if name in on_path]
  mixing = [read for read in whole if read[0] not in rows.picked]
  if mixing:
    certain = mixing
    if only_certain:
      names = _certain_ops(ys, x, ops)
      certain = [(name, op) for name, op in mixing if op.name in names and (
          name == x.name or name.split(":")[0] in names)]
    return "coupled" if certain else "unknown", min(
        certain or mixing, key=lambda read: _mixing_order(x, *read))[1]
  if rows.axes.get(x.name):
    return "coupled", rows.readers[x.name]
  unsure = rows.unknown + [op for _, op in whole]
  if x.name in rows.blocks:
    unsure.append(rows.readers[x.name])
  return ("unknown", unsure[0]) if unsure else ("independent", None)


def _certain_ops(ys, x, ops):
  """The names of the ops on ways from `x` to `ys` that pass no conditional."""
  plain = {name: op for name, op in ops.items()
           if op.type not in op_types.FUNCTIONAL_BRANCHES and not (
               op.type in op_types.MERGES and not any(
                   t.op.type == "NextIteration" for t in op.inputs))}
  after = traversal.descendants(plain, {x.name}, control=False)
  before, queue = set(), [y.op for y in ys]
  while queue:
    op = queue.pop()
    if op.name in plain and op.name not in before:
      before.add(op.name)
      queue.extend(t.op for t in op.inputs)
  return after & before


def _mixing_order(x, name, reader):
  """The key that sorts the op which mixes the rows before ops near it.

  An op between y and the one that mixes rows may read a tensor as a whole only
  to broadcast it to all rows, and everything above that one is read as a whole
  as well. So the op to blame is the nearest to y that reads a tensor which may
  have rows, and does more than move them.

  Args:
    x: `tf.Tensor`, shape `[B, ...]`.
    name: str, the name of a tensor that is read as a whole.
    reader: `tf.Operation` that reads it.

  Returns:
    (bool, bool): whether `reader` only moves rows, whether the tensor has none.
  """
  read = next(t for t in reader.inputs if t.name == name)
  if not x.shape.ndims or read.shape.ndims is None:  # Or a handle.
    has_rows = True
  else:
    count, dims = x.shape.as_list()[0], read.shape.as_list()
    has_rows = None in dims or any(
        count and dim >= count and not dim % count for dim in dims)
  only_moves = (reader.type in dependence_rules.ELEMENTWISE or
                reader.type in dependence_rules.MOVING)
  return only_moves, not has_rows
