"""Labels that the tests of controls and floors share."""

import numpy as np
import pytest


@pytest.fixture(scope="module")
def labels():
    return np.random.default_rng(0).permutation(np.arange(120) % 2)
