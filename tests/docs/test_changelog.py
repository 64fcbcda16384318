"""The changelog lists the modules that moved in 0.5, and the new ones are there."""

import importlib.util
import re

from pixel2style import _moved
from tests.support.paths import ROOT

TABLE = re.search(
    r"<!-- moved: begin -->(.*)<!-- moved: end -->", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.DOTALL
)
assert TABLE is not None
ROWS = re.findall(r"`(\w+)`(\*?) → ((?:`[\w.]+`(?:, )?)+)", TABLE[1])


def test_every_new_path_exists() -> None:
    paths = {path for _, _, new in ROWS for path in re.findall(r"`([\w.]+)`", new)}
    assert len(ROWS) > 80
    assert not [path for path in paths if importlib.util.find_spec(f"pixel2style.{path}") is None]


def test_the_old_paths_that_still_work_are_marked() -> None:
    marked = {old: new for old, star, new in ROWS if star}
    assert marked.keys() == _moved.MOVED.keys()
    assert not [old for old, new in _moved.MOVED.items() if f"`{new}`" not in marked[old]]
