"""Small projects, written as people write TensorFlow 1 code.

None of them knows of gradfeed. Each is a script that runs alone, such as

  python -m tests.integration.legacy.pgd_attack

and has a function `run(report)`, which returns its numbers as a dict of NumPy
arrays and calls `report(step, graph)` after each step. `projects_test` runs
them as they are and with gradfeed installed.
"""
