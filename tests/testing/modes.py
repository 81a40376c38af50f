"""Tests that are the same in every mode of TensorFlow run in one of them."""

import unittest

from tests import conftest

#: Decorates a test of a program of its own, which sets its mode itself.
without_mode = unittest.skipIf(
    conftest.MODE != "v1",
    "a program of its own has no mode, and has run in v1")
