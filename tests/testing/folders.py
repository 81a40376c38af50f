"""What tests of files have in common: a folder that is gone afterwards."""

import os
import tempfile

from absl.testing import parameterized
import numpy as np


#: The folder of the checkout.
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))

#: Models of other projects, which a checkout may have beside it.
MODELS = os.path.join(os.path.dirname(ROOT), "shared", "models")


class FolderTest(parameterized.TestCase):
  """A folder for each test.

  Attributes:
    folder: str, its path.
  """

  def setUp(self):
    super().setUp()
    self.folder = self.enter_context(tempfile.TemporaryDirectory())

  def path(self, *names):
    """The path of what is called `names` in the folder."""
    return os.path.join(self.folder, *names)

  def save(self, name, array):
    """Saves `array` as a `.npy` file; returns its path."""
    np.save(self.path(name), array)
    return self.path(name)
