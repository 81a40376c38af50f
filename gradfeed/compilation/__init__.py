"""Compiles a part of a graph by XLA, for one set of shapes.

XLA compiles what TensorFlow runs op by op into one program. It wants all shapes
and the number of turns of each loop that keeps something, and its programs do
not look at the values that TensorFlow's ops check. So what is computed is built
again at the shapes of a call (`static_graphs`, `list_sizes`, `growing_lists`),
what depends on shapes alone is told from what depends on values
(`value_checks`), and the program that is made of it (`programs`) tells by a
result of its own whether a value is out of range (`verdicts`).
"""
