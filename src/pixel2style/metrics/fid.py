"""FID as commonly reported: torch-fidelity's Inception network and arithmetic, with weights that the user provides.

The weights are in no package, so they cannot be bundled. torch-fidelity is an optional library, imported where it is
used.
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
from ..formats import state_dicts, torch_files
from . import frechet


class ImageFiles(Dataset[Tensor]):
    """Image files as torch-fidelity takes them: ``[3 h w]``, 8 bits."""

    def __init__(self, files: Sequence[Path]):
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(np.array(images.load(self.files[index]))).permute(2, 0, 1).contiguous()


def library() -> ModuleType:
    """The module torch_fidelity. Raises ConfigError when it is not installed."""
    try:
        return importlib.import_module("torch_fidelity")
    except ImportError as error:
        raise ConfigError("FID needs torch-fidelity: pip install torch-fidelity, or leave out --inception") from error


class Inception:
    """FID with the weights file that torch-fidelity publishes (weights-inception-2015-12-05-6726825d.pth).

    Raises ConfigError without torch-fidelity, CheckpointError for a file without weights.
    """

    def __init__(self, file: Path):
        self.library = library()
        self.file = file
        self.state = state_dicts.tensors(torch_files.read(file), str(file))

    def fid(self, results: Sequence[Path], originals: Sequence[Path], device: torch.device) -> float | None:
        """FID between two sets of image files, each at its own size; None for fewer than two images.

        The batch size is 1, since sizes may differ. Raises CheckpointError for weights of another network.
        """
        if min(len(results), len(originals)) < frechet.LEAST:
            return None
        with tempfile.TemporaryDirectory() as folder:
            # torch-fidelity unpickles its file without checks, so it gets one of ours that holds tensors only.
            checked = Path(folder) / "inception.pth"
            torch.save(self.state, checked)
            try:
                found = self.library.calculate_metrics(
                    input1=ImageFiles(results),
                    input2=ImageFiles(originals),
                    fid=True,
                    cuda=device.type == "cuda",
                    batch_size=1,
                    cache=False,
                    save_cpu_ram=True,
                    verbose=False,
                    feature_extractor_weights_path=str(checked),
                )
            except RuntimeError as error:
                if "state_dict" not in str(error):
                    raise
                reason = "is not torch-fidelity's Inception file: download it again"
                raise CheckpointError(f"{self.file} {reason}") from error
        return float(found["frechet_inception_distance"])
