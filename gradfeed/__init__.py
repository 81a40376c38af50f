"""The gradient of any tensor of a TensorFlow 1 graph, at any value."""

from gradfeed.derivatives import gradient
from gradfeed.derivatives import gradients
from gradfeed.derivatives import value_and_gradient
from gradfeed.functions import Function
from gradfeed.functions import function
from gradfeed.functions import run
