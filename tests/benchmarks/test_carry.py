"""The benchmark of carried features, on one face."""

from pathlib import Path

import numpy as np
import pytest

import carry
from edits import EDITS


@pytest.mark.slow
def test_edits_of_one_face_are_measured_in_every_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    for edit in EDITS:
        np.save(tmp_path / f"{edit}.npy", rng.normal(size=(1, 512)).astype(np.float32))
    monkeypatch.setattr(carry, "STRENGTHS", (1.0,))
    monkeypatch.setattr("sys.argv", ["carry.py", "--directions", str(tmp_path), "--faces", "1"])
    assert carry.main() == 0
    lines = {
        cells[1].strip(): [float(part) for part in cells[-2].split("/")]
        for cells in (line.split("|") for line in capsys.readouterr().out.splitlines() if "/" in line and "|" in line)
    }
    assert list(lines) == list(carry.WAYS)
    carried = next(name for name in lines if name.startswith("moved and faded"))
    assert lines[carried][0] < lines["rows alone"][0] and lines[carried][1] < lines["rows alone"][1]
