"""`minimize`: SciPy's `minimize` for the variables and tensors of a graph."""

from collections import abc
import numbers
import traceback

from gradfeed import errors
from gradfeed.optimization import limits
from gradfeed.optimization import objectives
from gradfeed import progress_lines

#: What methods of SciPy take besides the loss; all others the gradient alone.
_WITHOUT_GRADIENT = ("nelder-mead", "powell", "cobyla", "cobyqa")
_WITH_PRODUCT = ("newton-cg", "trust-ncg", "trust-krylov", "trust-constr")
_WITH_HESSIAN = ("dogleg", "trust-exact")
_METHODS = _WITHOUT_GRADIENT + _WITH_PRODUCT + _WITH_HESSIAN + (
    "cg", "bfgs", "l-bfgs-b", "tnc", "slsqp")


def minimize(loss, variables_or_x, session=None, feed_dict=None, x0=None,
             method="L-BFGS-B", bounds=None, constraints=(), tol=None,
             callback=None, options=None, progress=None, unconnected="error"):
  """Minimizes a loss by a method of SciPy; assigns the variables at the end.

  What `tf.contrib.opt.ScipyOptimizerInterface` did, for ref, resource and
  partitioned variables alike. The variables are inputs of a function, so that
  none is assigned while SciPy runs; the last x is assigned when SciPy returns,
  whether its `success` is true or not (it is false after `maxiter` steps). If
  an error is raised, or Ctrl-C pressed, the variables are as they were.

  Args:
    loss: floating `tf.Tensor` or name of one element.
    variables_or_x: what is moved, as in `scipy_objective`.
    session: as in `function`.
    feed_dict: as in `scipy_objective`.
    x0: as in `scipy_objective`.
    method: as in `scipy.optimize.minimize`: str, or function. Methods that
      take Hessian products or Hessians get them.
    bounds: None; or (low, high) by variable: a dict with variables, tensors or
      names as keys, or a list in the order of `variables_or_x`. A side is a
      number, an array that broadcasts to the variable's shape, or None. Or what
      SciPy takes: a pair for each element of x, `scipy.optimize.Bounds`.
    constraints: as SciPy takes them; 'fun' may also be a tensor of the graph,
      whose Jacobian is then added: {"type": "ineq", "fun": tensor}.
    tol: float, as in SciPy.
    callback: function, as in SciPy: called after each step with the vector x.
    options: dict, as in SciPy: {"maxiter": 100}.
    progress: None for a line on a terminal; True for that, or a line each half
      minute in a log; False for nothing; or a function of the number of
      evaluations and the loss, called after each evaluation.
    unconnected: as in `scipy_objective`; such variables stay as they are.

  Returns:
    `scipy.optimize.OptimizeResult`, with `x` of shape [n], float64, and
    `variables`: the arrays in the structure of `variables_or_x`.

  Raises:
    DependencyError: SciPy is not installed.
    ArgumentError: an argument that SciPy cannot use.
    The errors of `scipy_objective`.

  Example:
    >>> import gradfeed as gf, tensorflow.compat.v1 as tf
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...   w = tf.get_variable("w", initializer=[5.0, 5.0], use_resource=True)
    ...   loss = tf.reduce_sum((w - [1.0, 2.0]) ** 2)
    ...   session.run(w.initializer)
    ...   result = gf.minimize(loss, w, session, bounds={w: (None, 1.5)})
    ...   print(session.run(w).round(3), round(result.fun, 3))
    [1.  1.5] 0.25
  """
  _check(method, tol, callback, options, progress)
  optimize = _scipy_optimize()
  layout = objectives.layout_of(
      loss, variables_or_x, session, feed_dict, x0, unconnected)
  limited = {"bounds": limits.bounds_of(bounds, layout)}
  objective = objectives.ScipyObjective(
      loss, layout, session, feed_dict, unconnected)
  arguments = _arguments(objective, method)
  limited["constraints"] = limits.constraints_of(constraints, objective)
  report = progress_lines.reporter(
      progress, "{} evaluations, loss {:.8g}".format)
  if report is not None:
    arguments["fun"] = _counted(arguments["fun"], report)
  try:
    result = optimize.minimize(
        x0=objective.x0, method=method, tol=tol, callback=callback,
        options=None if options is None else dict(options), **arguments,
        **limited)
  except (TypeError, ValueError, KeyError) as error:
    raise _refused(error) or error
  finally:
    if report is not None:
      report.close()
  if any(part.is_variable for leaf in layout.leaves
         for part in leaf.differentiable()):
    objective.assign(result.x)
  result.variables = objective.unflatten(result.x)
  return result


def _arguments(objective, method):
  """What a method of SciPy takes of an objective, as a dict."""
  kind = method.lower() if isinstance(method, str) else ""
  if kind in _WITHOUT_GRADIENT:
    return {"fun": objective.value}
  arguments = {"fun": objective.fun, "jac": True}
  if kind in _WITH_PRODUCT or not kind:
    arguments["hessp"] = objective.hessp
  elif kind in _WITH_HESSIAN:
    arguments["hess"] = objective.hess
  return arguments


def _counted(fun, report):
  """`fun`, with a report of each evaluation."""
  count = [0]

  def counted(x):
    result = fun(x)
    count[0] += 1
    report(count[0], result[0] if isinstance(result, tuple) else result)
    return result

  return counted


def _refused(error):
  """The `ArgumentError` for what SciPy itself raised; None for other code's."""
  frames = traceback.extract_tb(error.__traceback__)
  path = frames[-1].filename.replace("\\", "/")
  if isinstance(error, errors.GradfeedError) or not (
      "/scipy/" in path or "/numpy/" in path):
    return None
  return errors.ArgumentError(
      "SciPy refuses its arguments: {}".format(errors.first_line(error)),
      "It raised {}.".format(type(error).__name__),
      "See the documentation of scipy.optimize.minimize for this method.")


def _check(method, tol, callback, options, progress):
  """Refuses arguments that SciPy cannot use."""
  if not callable(method) and not (
      isinstance(method, str) and method.lower() in _METHODS):
    raise errors.ArgumentError(
        "method={!r} is not known.".format(method),
        "It is the method of scipy.optimize.minimize.",
        "Use one of {}.".format(", ".join(sorted(_METHODS))))
  for name, value, is_right, kind in [
      ("tol", tol, isinstance(tol, numbers.Real), "a float"),
      ("callback", callback, callable(callback), "a function of x"),
      ("options", options, isinstance(options, abc.Mapping), "a dict"),
      ("progress", progress, callable(progress) or isinstance(progress, bool),
       "True, False or a function")]:
    if value is not None and not is_right:
      raise errors.ArgumentError(
          "{}={!r} cannot be used.".format(name, value),
          "It is passed to scipy.optimize.minimize, or called by it."
          if name != "progress" else "It says what is shown.",
          "Pass {}, or None.".format(kind))


def _scipy_optimize():
  """The module `scipy.optimize`."""
  try:
    from scipy import optimize  # pylint: disable=g-import-not-at-top
  except ImportError:
    raise errors.DependencyError(
        "gf.minimize needs SciPy, which cannot be imported.",
        "The methods of optimization are SciPy's.",
        "pip install 'gradfeed[scipy]'") from None
  return optimize
