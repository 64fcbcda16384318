"""Old import paths of documented modules: they work for one release and warn (CHANGELOG, 0.5).

``import pixel2style.session`` gives ``pixel2style.inference.session``, the same module object. It also gets the old
names of what was renamed in it.
"""

import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

PACKAGE = __name__.rpartition(".")[0]
MOVED = {
    "align": "faces.align",
    "data": "training.dataset",
    "degrade": "tasks.degrade",
    "descent": "inference.optimize.newton",
    "encoders": "models.encoders",
    "evaluate": "metrics.scores",
    "features": "metrics.features",
    "folders": "photos",
    "foreign": "checkpoints.foreign",
    "latents": "editing.latents",
    "losses": "metrics.losses",
    "mobilestylegan": "generators.mobilestylegan.network",
    "model": "models.psp",
    "pipeline": "inference.folder",
    "pose": "faces.pose",
    "presets": "tasks.presets",
    "refine": "inference.optimize.adam",
    "report": "evaluation.report",
    "session": "inference.session",
    "stylegan2": "generators.stylegan2.network",
    "stylegan3": "generators.stylegan3.network",
    "train": "training.loop",
    "translation": "inference.prepare",
}
RENAMED = {
    "data": {"dice": "step_rng", "seeds": "sample_seeds", "task_source": "make_sources"},
    "evaluate": {"Judges": "Scorer"},
    "refine": {"optimize_rows": "optimize"},
}
"""``{old path: {old name: new name}}``."""


class _Alias(Loader):
    def __init__(self, new: str, renamed: Mapping[str, str]):
        self.new = new
        self.renamed = renamed

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(self.new)
        self.own = module.__spec__
        for old, new in self.renamed.items():
            setattr(module, old, getattr(module, new))
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.own  # the import system has just replaced it by the alias's


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, name = fullname.rpartition(".")
        if package != PACKAGE or name not in MOVED:
            return None
        new = f"{PACKAGE}.{MOVED[name]}"
        warnings.warn(f"{fullname} is now {new}; the old path goes in 0.6", DeprecationWarning, stacklevel=2)
        return ModuleSpec(fullname, _Alias(new, RENAMED.get(name, {})))


def install() -> None:
    """Let the old paths be found, after everything else."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
