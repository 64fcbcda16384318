"""Where files of the repository lie."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
GOLDEN = TESTS / "golden"
ASTRONAUT = ROOT / "examples" / "astronaut.png"
PYTHONPATH = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
"""Of a process that imports ``tests.support``, and the package from where this one has it."""
