"""The ways to Jacobians, Hessians and per-example gradients, to be timed."""
