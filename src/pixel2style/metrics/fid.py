"""FID as others report it: torch-fidelity's Inception network and arithmetic, on the weights that the user has.

Those weights lie in no package, so nothing here can be bundled; torch-fidelity is an optional library, imported where
it is used. This module does not know which pictures belong together.
"""

import importlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .. import images
from ..errors import CheckpointError, ConfigError
from ..formats import weights
from . import frechet


class Levels(Dataset[Tensor]):
    """Pictures as torch-fidelity takes them: bytes ``[3 h w]``."""

    def __init__(self, files: Sequence[Path]):
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(np.array(images.load(self.files[index]))).permute(2, 0, 1).contiguous()


def library() -> ModuleType:
    """torch-fidelity. Raises ConfigError when it is not installed."""
    try:
        return importlib.import_module("torch_fidelity")
    except ImportError as error:
        raise ConfigError("FID needs torch-fidelity: pip install torch-fidelity, or leave out --inception") from error


class Inception:
    """The weights in the file that torch-fidelity publishes (weights-inception-2015-12-05-6726825d.pth).

    Raises ConfigError without torch-fidelity, CheckpointError for a file that holds no weights.
    """

    def __init__(self, file: Path):
        self.library = library()
        self.file = file
        self.state = weights.tensors(weights.read(file), str(file))

    def fid(self, results: Sequence[Path], originals: Sequence[Path], device: torch.device) -> float | None:
        """FID of two crowds of pictures, each at its own size; None for less than two.

        They go one by one, since they need not be of one size. Raises CheckpointError for weights of another network.
        """
        if min(len(results), len(originals)) < frechet.LEAST:
            return None
        with tempfile.TemporaryDirectory() as folder:
            # torch-fidelity unpickles whatever it is given, so it is given a file of ours that holds tensors only.
            plain = Path(folder) / "inception.pth"
            torch.save(self.state, plain)
            try:
                found = self.library.calculate_metrics(
                    input1=Levels(results),
                    input2=Levels(originals),
                    fid=True,
                    cuda=device.type == "cuda",
                    batch_size=1,
                    cache=False,
                    save_cpu_ram=True,
                    verbose=False,
                    feature_extractor_weights_path=str(plain),
                )
            except RuntimeError as error:
                if "state_dict" not in str(error):
                    raise
                reason = "is not torch-fidelity's Inception file: download it again"
                raise CheckpointError(f"{self.file} {reason}") from error
        return float(found["frechet_inception_distance"])
