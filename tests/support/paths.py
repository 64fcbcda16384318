"""Where files of the repository lie."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
GOLDEN = TESTS / "golden"
ASTRONAUT = ROOT / "examples" / "astronaut.png"
