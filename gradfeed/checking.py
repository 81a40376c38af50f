"""`check`: the gradient at a value held against what y does around it."""

import numpy as np

from gradfeed import derivatives
from gradfeed import differences
from gradfeed import errors
from gradfeed import findings
from gradfeed import forwards
from gradfeed import holding
from gradfeed import sampling
from gradfeed import sessions
from gradfeed import tensors
from gradfeed import trials
from gradfeed._tf import tf


def check(y, x, x_t, session=None, feed_dict=None, gradient=None, order=1,
          seed=0):
  session = session or sessions.default_session()
  graph = sessions.graph_of(session)
  place = sampling.Place(graph, x, x_t, session, feed_dict)
  ys = [tensors.read_of(tensors.resolve(leaf, graph, "y"))
        for leaf in tensors.flatten(y)]
  built, dxs = derivatives.value_and_gradient(
      ys, [point.tensor for point in place.points])
  if gradient is not None:
    built, dxs = ys, [tensors.resolve(leaf, graph, "gradient").tensor
                      for leaf in tensors.flatten(gradient)]
  place.require_steady(ys + dxs)
  held = holding.Held(place, built)
  forward = forwards.Forward(place, built, held.tensors(
      held.randoms + held.meant + held.hidden))
  first = place.sample(dxs + built + forward.sources, strict=True)
  g, yv, sv = first[:len(dxs)], first[len(dxs):len(dxs)+len(built)], first[len(dxs)+len(built):]
  forward.bind(sv, yv)
  values = trials.broad(place.values)
  g = trials.broad(g)
  g64 = forward.gradients(place.values)
  best = g if g64 is None or gradient is not None else g64
  source = forward.differences(best)
  dirs = differences.directions(values, best, [p.name for p in place.points], seed)
  found = trials.run(source, best, dirs, held.eps if best is g else forward.eps)
  return trials.verdict_of(found), found, forward, held, g, g64
