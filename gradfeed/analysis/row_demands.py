"""What may be wanted of a tensor for one row of the output of a graph.

A demand is one of the constants below or a `RowDemand`. The walk back from y
(`row_dependence`) hands demands from op to op; the rules per type of op
(`dependence_rules`, `indexing_rules`) say which demand on an output of an op
makes which demands on its inputs.
"""

import collections

#: All of the tensor is read for one row.
WHOLE = "whole"

#: Any row of the tensor may be read, because rows are picked by an index that
#: is known when the graph runs.
PICKED = "picked"

#: The value of the tensor settles a shape, an axis or a position alone.
SHAPE = "shape"

#: One row of the tensor is read. Row b are the places (i * B + b) * size + j on
#: `axis`, for i below `outer` and j below `size`, both `symbolic_shapes.Size`:
#: mostly place b alone, where both are 1.
RowDemand = collections.namedtuple("RowDemand", ["axis", "outer", "size"])
