"""Every preset by name: whole training configurations, but for data and folder."""

from . import TASKS
from .recipes import COMPACT as COMPACT
from .task import Preset as Preset

PRESETS: dict[str, Preset] = {name: preset for task in TASKS.values() for name, preset in task.presets.items()}
"""Those of ``TASKS``; ``tasks.load_installed`` adds those of other packages."""
