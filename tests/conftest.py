"""Settings for every test: one thread for each of several workers, else two, so that a small machine is not slowed."""

import os
from collections.abc import Iterator

import pytest
import torch

torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else min(2, torch.get_num_threads()))


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For networks so small that a second thread only waits: on a busy machine it makes them tens of times slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
