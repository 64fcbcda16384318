"""The README is short, its Python runs as it stands, and what the documents name exists."""

import inspect
import re
from pathlib import Path
from typing import get_args

import pytest
import torch

from pixel2style import cli
from tests.support.paths import GOLDEN, ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "TRAINING.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "benchmarks/README.md"]


def test_the_readme_has_at_most_140_lines() -> None:
    assert len(README.splitlines()) <= 140


@pytest.mark.usefixtures("one_thread")
def test_the_python_of_the_readme_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len([line for line in code.splitlines() if line]) == 6
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    names: dict[str, torch.Tensor] = {}
    exec(code, names)
    assert names["ws"].shape == (1, 16, 512) and names["image"].shape == (1, 3, 1024, 1024)
    assert (tmp_path / "pair.png").stat().st_size > 100_000


def test_the_readme_names_no_option_that_does_not_exist() -> None:
    commands = cli.COMMANDS.values()
    own = [item for command in commands for item in inspect.signature(command).parameters.items()]
    names = {name.replace("_", "-") for name, _ in own}
    names |= {str(getattr(argument, "name", "")) for _, option in own for argument in get_args(option.annotation)}
    names |= set(re.findall(r"^--(\S+) =", (GOLDEN / "train_options.txt").read_text(encoding="utf-8"), re.MULTILINE))
    for script in re.findall(r"(?:benchmarks|tools)/\w+\.py", README):
        names |= set(re.findall(r'add_argument\("--([a-z0-9-]+)"', (ROOT / script).read_text(encoding="utf-8")))
    for option in re.findall(r"`?--([a-z][a-z._-]*)", README):
        assert option.removeprefix("no-") in {*names, "help", "num_processes"}, option


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_and_script_of_a_page_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    missing = [link for link in links if link and not (page.parent / link).exists()]
    scripts = set(re.findall(r"\b(?:benchmarks|tools|examples)/\w+\.py\b", text))
    missing += [script for script in scripts if not (ROOT / script).is_file()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_anchor_of_a_page_is_a_heading(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s:]*)#([^)\s]+)\)", page.read_text(encoding="utf-8")):
        other = page.parent / target if target else page
        headings = re.findall(r"^#+ (.+)$", other.read_text(encoding="utf-8"), re.MULTILINE)
        assert anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_name_that_a_page_imports_is_there(page: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    for line in re.findall(r"^(?:from|import) pixel2style.*$", "\n".join(blocks), re.MULTILINE):
        exec(line, {})
