"""Settings for every test: two threads, so that a small machine that runs other things is not slowed by contention."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
torch.set_num_threads(min(2, torch.get_num_threads()))
