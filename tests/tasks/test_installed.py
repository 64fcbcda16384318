"""Tasks of other packages, by entry points: ``train`` and ``translate`` find them; a broken one stops nothing else."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

from pixel2style import tasks
from pixel2style.errors import ConfigError
from pixel2style.tasks import degrade
from tests.support.golden_rule import img
from tests.support.paths import ROOT

EXAMPLE = ROOT / "examples" / "colourise"


def installed(folder: Path, name: str, points: dict[str, str]) -> None:
    """Make ``folder`` look as if a package with these entry points were installed in it."""
    about = folder / f"{name}-0.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
    lines = [f"{point} = {value}" for point, value in points.items()]
    (about / "entry_points.txt").write_text("\n".join([f"[{tasks.ENTRY_POINTS}]", *lines, ""]))


def run(folder: Path, *commands: list[str]) -> subprocess.CompletedProcess[str]:
    """Run commands one after the other in a new process in which ``folder`` is on the path; prints their exit codes."""
    script = (
        "import sys; from pixel2style import cli\n"
        f"for words in {list(commands)!r}:\n"
        "    try: code = cli.main(words)\n"
        "    except SystemExit as end: code = end.code\n"
        "    print('exit code', code, flush=True)\n"
    )
    places = [str(folder), str(EXAMPLE), os.environ.get("PYTHONPATH", ""), str(ROOT / "src")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places)), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment, cwd=folder
    )


def test_the_example_is_found_by_train_and_translate(tmp_path: Path) -> None:
    about = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    installed(tmp_path, about["name"], about["entry-points"][tasks.ENTRY_POINTS])
    made = run(
        tmp_path,
        ["train"],
        ["train", "colourise", "--help"],
        ["translate", "--help"],
        ["translate", "colourise", "me.jpg", "--out", "out"],
        ["train", "colourise", "--data", "none", "--out", "out"],
    )
    listed, fields, helped, *_ = made.stdout.split("exit code")
    assert re.search(r"colourise +gray photograph -> face in colour \(compact\)", listed)
    assert "--source.factors" in fields
    assert "domain, colourise." in helped
    assert [line.split()[-1] for line in made.stdout.splitlines() if "exit code" in line] == ["0", "0", "0", "2", "2"]
    untrained, no_pictures = made.stderr.splitlines()
    assert "no model for colourise is bundled: train one (pixel2style train colourise --help)" in untrained
    assert "none holds no pictures" in no_pictures


BROKEN: dict[str, tuple[str, str | None]] = {
    "unlucky": ("unlucky_task:TASK", "raise RuntimeError('no luck')"),
    "wordy": ("wordy_task:TASK", "TASK = 'text'"),
    "hollow": ("hollow_task:TASK", ""),
    "absent": ("no_such_module:TASK", None),
}
"""Tasks that cannot be used: the entry point, and the content of its module."""


def test_broken_tasks_are_named_in_a_sentence_each_and_stop_nothing_else(tmp_path: Path) -> None:
    for value, code in BROKEN.values():
        if code is not None:
            (tmp_path / value.replace(":TASK", ".py")).write_text(code)
    installed(tmp_path, "somebodys-package", {name: value for name, (value, _) in BROKEN.items()})
    uses = [["translate", name, "me.jpg", "--out", "out"] for name in BROKEN]
    uses += [["train", name, "--data", "d", "--out", "out"] for name in BROKEN]
    made = run(tmp_path, ["train"], *uses, ["train", "invert", "--help"])
    codes = [line.split()[-1] for line in made.stdout.splitlines() if "exit code" in line]
    assert codes == ["0", *["2"] * len(uses), "0"]
    for line, name in zip(made.stderr.splitlines(), [*BROKEN] * 3, strict=True):
        assert f"the task {name} of somebodys-package" in line and BROKEN[name][0] in line


def test_a_name_that_is_taken_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        name, value, dist = "invert", "other:TASK", None

        @staticmethod
        def load() -> tasks.Task:
            return tasks.Task("something else")

    before = dict(tasks.TASKS)
    monkeypatch.setattr(tasks.metadata, "entry_points", lambda group: [Point])
    tasks.load_installed.cache_clear()
    try:
        assert "the name invert is taken" in tasks.load_installed()["invert"]
        assert before == tasks.TASKS
        with pytest.raises(ConfigError, match="no task inverts"):
            tasks.find_task("inverts")
    finally:
        tasks.load_installed.cache_clear()


def test_the_example_is_short_and_makes_gray_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    import colourise

    code = [line for line in (EXAMPLE / "colourise.py").read_text().splitlines() if line.strip()]
    assert len(code) < 30
    target = img("photo", 3, 16, 16)
    source = tasks.make_source(colourise.TASK, target, torch.Generator(), tasks.SourceConfig())
    assert tasks.channels_of(colourise.TASK, tasks.SourceConfig()) == len(source) == 1
    assert torch.allclose(source, degrade.luma(target), atol=1e-6)
