"""docs/architecture.md draws the tree and the layers as they are."""

import re
import tomllib

from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PACKAGE = ROOT / "src" / "pixel2style"


def test_the_tree_has_every_folder_and_every_module_at_the_root() -> None:
    (tree,) = re.findall(r"^    src/pixel2style/\n((?:      .*\n)+)", PAGE, re.MULTILINE)
    drawn = re.findall(r"(?:^      |  )(\w+/|\w+\.py)(?=  )", tree, re.MULTILINE)
    folders = [f"{path.name}/" for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()]
    assert sorted(drawn) == sorted([*folders, *(path.name for path in PACKAGE.glob("*.py"))])


def test_the_layers_are_those_of_the_contract() -> None:
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    layers = [[name.strip(" ()") for name in re.split(r"[:|]", layer)] for layer in contract[0]["layers"]]
    (drawn,) = re.findall(r"^## Layers\n.*?\n((?:    [\w, ]+\n)+)", PAGE, re.MULTILINE | re.DOTALL)
    shown = [line.strip().split(", ") for line in drawn.splitlines()]
    unshown = {"__main__", "_moved"}
    assert shown == [[name for name in layer if name not in unshown] for layer in layers if set(layer) - unshown]


def test_every_module_that_the_page_names_is_there() -> None:
    named = re.findall(r"`((?:\w+/)+\w+\.py)`", PAGE.replace("/NAME.py", "/"))
    missing = [path for path in named if not any((folder / path).is_file() for folder in (PACKAGE, ROOT))]
    assert named and not missing
