"""Settings for every test: one thread for each of several workers, else two, so that a small machine is not slowed.

Python's search for garbage and clearing pages of memory anew would take a tenth of the time.
"""

import gc
import math
import os
from collections.abc import Iterator

import pytest
import torch

from pixel2style import runtime

gc.disable()  # while tests are collected
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start
torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else min(2, torch.get_num_threads()))


def pytest_collection_finish() -> None:
    """What is there now stays: the search for garbage leaves it out, and looks less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 20, 20)
    gc.enable()
    runtime.keep_freed_memory()


@pytest.fixture(scope="session", autouse=True)
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache folder of the tests' own: what a user's holds, such as VGG's weights, would change scores and times.

    And nothing is said of a busy machine, which other tests would take for an error.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIXEL2STYLE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr("pixel2style.runtime.CRAWLING", math.inf)
        yield


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For networks so small that a second thread only waits: on a busy machine it makes them tens of times slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
