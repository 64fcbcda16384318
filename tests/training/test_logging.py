import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from pixel2style import images
from pixel2style.config import LossConfig, TrainConfig
from pixel2style.errors import ConfigError, OutputError
from pixel2style.training import logging
from tests.support import wandb_server
from tests.support.paths import ASTRONAUT, PYTHONPATH

pytestmark = pytest.mark.usefixtures("one_thread")
PHOTO = ASTRONAUT
CONFIG = TrainConfig(data=("faces",), out="run", lr=3e-4, loss=LossConfig(lpips=0.7))


def rows(step: int) -> list[logging.Row]:
    """Two examples whose outputs come nearer to their target with every step."""
    photo = images.resize(images.to_tensor(images.load(PHOTO))[None], 32)[0]
    return [
        logging.Row(
            name,
            {"source": turned.mean(0, keepdim=True).expand(3, -1, -1), "target": turned, "output": turned * step / 10},
            {"identity": step / 100, "lpips": 1 / step},
        )
        for name, turned in [("astronaut", photo), ("mirrored", photo.flip(-1))]
    ]


def tell(tracker: logging.Tracker, steps: range) -> None:
    """What training tells: a loss every step, pictures and a judgement of unseen ones every fifth."""
    for step in steps:
        tracker.numbers(step, {"train/l2": 1 / step, "lr": 1e-4, "pictures_per_s": 3.5, "memory_gb": 1.25})
        if step % 5 == 0:
            tracker.numbers(step, {"validation/lpips": 2 / step})
            tracker.pictures(step, "train", rows(step))
            tracker.pictures(step, "validation", rows(step))


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / logging.LOG).read_text().splitlines()]


def curve(folder: Path, name: str) -> dict[int, float]:
    points = [(line["step"], line[name]) for line in lines(folder) if name in line]
    assert len({step for step, _ in points}) == len(points), "a step twice"
    return dict(points)


class TestLines:
    def test_every_number_is_on_a_line_with_its_step_at_once(self, tmp_path: Path) -> None:
        tell(logging.trackers(CONFIG, tmp_path, 0), range(1, 6))  # not closed
        assert curve(tmp_path, "train/l2") == {step: 1 / step for step in range(1, 6)}
        assert curve(tmp_path, "validation/lpips") == {5: 0.4}

    def test_pictures_come_as_a_sheet_with_a_row_for_each_example(self, tmp_path: Path) -> None:
        tell(logging.trackers(CONFIG, tmp_path, 0), range(5, 6))
        with Image.open(tmp_path / "pictures" / "validation-00000005.jpg") as sheet:
            assert sheet.size == (3 * 32, 2 * 32)
            pixels = images.to_tensor(sheet)
        for row, strip in zip(rows(5), pixels.chunk(2, dim=1), strict=True):
            for shown, picture in zip(strip.chunk(3, dim=2), row.pictures.values(), strict=True):
                assert (shown - picture).abs().mean() < 0.1
        (line,) = (line for line in lines(tmp_path) if line.get("pictures") == "validation")
        assert line["file"] == "pictures/validation-00000005.jpg"
        assert line["rows"] == [{"name": row.name, **row.scores} for row in rows(5)]

    def test_pictures_of_other_sizes_fit_the_sheet(self) -> None:
        row = logging.Row("a", {"source": torch.zeros(3, 8, 8), "output": torch.zeros(3, 16, 16)}, {})
        assert logging.sheet([row, row]).size == (32, 32)

    def test_a_sheet_of_very_many_examples_stays_one_that_can_be_written(self, tmp_path: Path) -> None:
        many = [logging.Row(str(place), {"output": torch.zeros(3, 1024, 8)}, {}) for place in range(70)]
        lines_ = logging.Lines(tmp_path, 0)
        lines_.pictures(1, "validation", many)
        assert len(lines(tmp_path)[0]["rows"]) == 70

    def test_going_on_drops_what_comes_again_and_a_torn_line(self, tmp_path: Path) -> None:
        tell(logging.trackers(CONFIG, tmp_path, 0), range(1, 11))
        with (tmp_path / logging.LOG).open("a") as file:
            file.write('{"step": 11, "train/')
        going_on = logging.trackers(CONFIG, tmp_path, 7)
        assert max(line["step"] for line in lines(tmp_path)) == 7
        tell(going_on, range(8, 11))
        assert curve(tmp_path, "train/l2") == {step: 1 / step for step in range(1, 11)}
        assert list(curve(tmp_path, "validation/lpips")) == [5, 10]
        assert not list(tmp_path.glob("*.part"))

    def test_a_torn_line_of_an_early_step_is_no_line(self, tmp_path: Path) -> None:
        (tmp_path / logging.LOG).write_text('{"step": 1}\n{"step": 2}\nnonsense\n{"step": 3')
        logging.trackers(CONFIG, tmp_path, 3)
        assert [line["step"] for line in lines(tmp_path)] == [1, 2]

    def test_without_a_state_the_log_begins_anew(self, tmp_path: Path) -> None:
        tell(logging.trackers(CONFIG, tmp_path, 0), range(1, 3))
        logging.trackers(CONFIG, tmp_path, 0)
        assert lines(tmp_path) == []

    def test_what_is_no_number_is_still_json(self, tmp_path: Path) -> None:
        tracker = logging.trackers(CONFIG, tmp_path, 0)
        tracker.numbers(1, {"train/l2": float("nan"), "train/lpips": float("inf"), "lr": 0.5})
        assert lines(tmp_path) == [{"step": 1, "train/l2": None, "train/lpips": None, "lr": 0.5}]

    def test_the_summary_is_the_last_line(self, tmp_path: Path) -> None:
        tracker = logging.trackers(CONFIG, tmp_path, 0)
        tell(tracker, range(1, 3))
        tracker.summary({"best_step": 2, "lpips": 0.25, "file": "model.safetensors"})
        assert lines(tmp_path)[-1] == {
            "step": 2,
            "summary": {"best_step": 2, "lpips": 0.25, "file": "model.safetensors"},
        }

    def test_a_folder_that_cannot_be_written_is_the_users_to_mend(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(OutputError, match="another --out"):
            logging.trackers(CONFIG, tmp_path / "file", 0)


@pytest.mark.parametrize("package", ["tensorboard", "wandb"])
def test_a_missing_package_is_named_before_anything_is_written(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=rf'--track {package} .*pip install "pixel2style\[track\]"'):
        logging.trackers(TrainConfig(track=(package,)), tmp_path / "run", 0)
    assert not (tmp_path / "run").exists()


class TestTensorBoard:
    CONFIG = TrainConfig(data=("faces",), out="run", lr=3e-4, track=("tensorboard",))

    def read(self, folder: Path) -> Any:
        events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
        found = events.EventAccumulator(
            str(folder / "tensorboard"), size_guidance={"scalars": 0, "images": 0, "tensors": 0}
        )
        return found.Reload()

    def test_curves_share_the_runs_step_across_a_kill(self, tmp_path: Path) -> None:
        pytest.importorskip("tensorboard")
        tell(logging.trackers(self.CONFIG, tmp_path, 0), range(1, 10))  # killed: never closed
        second = logging.trackers(self.CONFIG, tmp_path, 7)
        tell(second, range(8, 13))
        second.close()
        found = self.read(tmp_path)
        assert {e.step: e.value for e in found.Scalars("train/l2")} == pytest.approx({s: 1 / s for s in range(1, 13)})
        assert len(found.Scalars("train/l2")) == 12
        assert [event.step for event in found.Scalars("validation/lpips")] == [5, 10]
        assert {"lr", "pictures_per_s", "memory_gb"} <= set(found.Tags()["scalars"])

    def test_pictures_scores_configuration_and_summary_are_in_it(self, tmp_path: Path) -> None:
        pytest.importorskip("tensorboard")
        tracker = logging.trackers(self.CONFIG, tmp_path, 0)
        tell(tracker, range(5, 11))
        tracker.summary({"best_step": 10, "file": "model.safetensors"})
        tracker.close()
        found = self.read(tmp_path)
        for name in ("train", "validation"):
            shown = found.Images(f"{name}/pictures")
            assert [(image.step, image.width, image.height) for image in shown] == [(5, 96, 64), (10, 96, 64)]

        def text(name: str) -> str:
            return found.Tensors(f"{name}/text_summary")[-1].tensor_proto.string_val[0].decode()

        assert "| astronaut | 0.100 | 0.100 |" in text("validation/rows")
        assert '"lr": 0.0003' in text("configuration")
        assert '"lpips": 0.8' in text("configuration")
        assert "model.safetensors" in text("summary")


@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")  # W&B's artifacts leave their folders
class TestWandb:
    CONFIG = TrainConfig(data=("faces",), out="run", lr=3e-4, loss=LossConfig(lpips=0.7), track=("wandb",))

    @pytest.fixture(autouse=True)
    def offline(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        wandb = pytest.importorskip("wandb")
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("NETRC", str(tmp_path / "nobody"))
        monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "nothing"))
        monkeypatch.setenv("WANDB_MODE", "offline")
        wandb.teardown()
        yield
        wandb.teardown()
        gc.collect()  # here, where the warning is ignored

    def sessions(self, folder: Path) -> list[list[Any]]:
        """The records of each session, oldest first."""
        from pixel2style.training.logging.wandb import records

        files = sorted((folder / "wandb").glob("offline-run-*/*.wandb"), key=lambda file: file.stat().st_mtime)
        return [list(records(file)) for file in files]

    def history(self, folder: Path) -> list[dict[str, Any]]:
        """What W&B was told, in order."""
        told = [r.history for session in self.sessions(folder) for r in session if r.HasField("history")]
        return [
            {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in step.item} for step in told
        ]

    def told(self, folder: Path, name: str) -> list[tuple[int, Any]]:
        return [(int(line["step"]), line[name]) for line in self.history(folder) if name in line]

    def in_another_process(self, folder: Path, start: int, stop: int, end: str) -> None:
        code = f"""
            import os, signal, sys
            from pathlib import Path
            from tests.training.test_logging import TestWandb, tell, logging as track
            from pixel2style.training.logging import wandb as track_wandb
            track_wandb.FLUSH = 0.0  # W&B writes its file when a block of it is full
            tracker = track.trackers(TestWandb.CONFIG, Path({str(folder)!r}), {start})
            tell(tracker, range({start + 1}, {stop + 1}))
            {end}
        """
        script = "\n".join(line.strip() for line in code.splitlines())
        environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, env=environment, capture_output=True, timeout=120, check=False)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr.decode()

    def test_curves_tables_configuration_and_summary_are_in_the_offline_file(self, tmp_path: Path) -> None:
        tracker = logging.trackers(self.CONFIG, tmp_path / "run", 0)
        tell(tracker, range(1, 11))
        tracker.summary({"best_step": 10, "lpips": 0.2, "file": "model.safetensors"})
        tracker.close()
        folder = tmp_path / "run"
        (records,) = self.sessions(folder)
        assert self.told(folder, "train/l2") == [(step, 1 / step) for step in range(1, 11)]
        assert self.told(folder, "validation/lpips") == [(5, 0.4), (10, 0.2)]
        assert {"lr", "pictures_per_s", "memory_gb"} <= set(self.history(folder)[0])

        config = {e.key: json.loads(e.value_json) for r in records if r.HasField("run") for e in r.run.config.update}
        assert config["lr"] == 3e-4
        assert config["loss"]["lpips"] == 0.7
        axes = {r.metric.glob_name: r.metric.step_metric for r in records if r.HasField("metric")}
        assert axes["*"] == "step"
        summary = {u.key: u.value_json for r in records if r.HasField("summary") for u in r.summary.update if u.key}
        assert json.loads(summary["file"]) == "model.safetensors"

    def test_every_table_of_a_name_has_one_key_and_a_step_column(self, tmp_path: Path) -> None:
        tracker = logging.trackers(self.CONFIG, tmp_path, 0)
        tell(tracker, range(5, 11))
        tracker.close()
        for name in ("train", "validation"):
            assert [step for step, _ in self.told(tmp_path, f"{name}/table/path")] == [5, 10]
            for step, path in self.told(tmp_path, f"{name}/table/path"):
                (file,) = (tmp_path / "wandb").glob(f"offline-run-*/files/{path}")
                table = json.loads(file.read_text())
                assert table["columns"] == ["step", "name", "source", "target", "output", "identity", "lpips"]
                assert [line[:2] for line in table["data"]] == [[step, "astronaut"], [step, "mirrored"]]
                assert [line[-2:] for line in table["data"]] == [[step / 100, 1 / step]] * 2
            assert [step for step, _ in self.told(tmp_path, f"{name}/pictures/path")] == [5, 10]

    def test_the_pictures_of_tables_wait_in_the_folder_of_the_run(self, tmp_path: Path) -> None:
        tracker = logging.trackers(self.CONFIG, tmp_path, 0)
        tell(tracker, range(5, 6))
        tracker.close()
        artifacts = [r.artifact for session in self.sessions(tmp_path) for r in session if r.HasField("artifact")]
        waiting = [Path(entry.local_path) for artifact in artifacts for entry in artifact.manifest.contents]
        assert sum(path.read_bytes().startswith(b"\xff\xd8\xff") for path in waiting) == 2 * 6
        assert all(path.is_relative_to(tmp_path) for path in waiting)
        assert "WANDB_DATA_DIR" not in os.environ

    def test_going_on_is_the_same_run_and_tells_no_step_twice(self, tmp_path: Path) -> None:
        first = logging.trackers(self.CONFIG, tmp_path, 0)
        tell(first, range(1, 11))
        first.close(failed=True)
        second = logging.trackers(self.CONFIG, tmp_path, 6)  # the last state lies four steps behind
        tell(second, range(7, 16))
        second.close()
        before, after = self.sessions(tmp_path)
        (ids,) = ({r.run.run_id for r in before + after if r.HasField("run")},)
        assert ids == {json.loads((tmp_path / "wandb.json").read_text())["id"]}
        assert all(r.run.resume for r in before + after if r.HasField("run"))
        assert self.told(tmp_path, "train/l2") == [(step, 1 / step) for step in range(1, 16)]
        assert [step for step, _ in self.told(tmp_path, "validation/table/path")] == [5, 10, 15]
        assert [r.exit.exit_code for r in before + after if r.HasField("exit")] == [1, 0]
        counted = [line["_step"] for line in self.history(tmp_path)]
        assert counted == sorted(set(counted)), "W&B's own steps go on, too"

    def test_a_kill_costs_no_step_though_wandb_had_not_written_it(self, tmp_path: Path) -> None:
        self.in_another_process(tmp_path, 0, 12, "os.kill(os.getpid(), signal.SIGKILL)")
        second = logging.trackers(self.CONFIG, tmp_path, 11)
        tell(second, range(12, 16))
        second.close()
        assert self.told(tmp_path, "train/l2") == [(step, 1 / step) for step in range(1, 16)]
        assert [step for step, _ in self.told(tmp_path, "validation/table/path")] == [5, 10, 15]
        (lost,) = [path for step, path in self.told(tmp_path, "validation/table/path") if step == 10]
        file = (tmp_path / "wandb" / "latest-run" / "files" / lost).resolve(strict=True)
        assert [line[:2] for line in json.loads(file.read_text())["data"]] == [[10, "astronaut"], [10, "mirrored"]]

    def test_a_session_that_was_killed_at_birth_is_not_left_for_wandb_sync_to_stop_at(self, tmp_path: Path) -> None:
        self.session(tmp_path, 0, 3)
        name = json.loads((tmp_path / "wandb.json").read_text())["id"]
        killed = tmp_path / "wandb" / f"offline-run-20200101_000000-{name}" / f"run-{name}.wandb"
        killed.parent.mkdir()
        killed.write_bytes(b":W&B\xe1\xbe\x00")  # what W&B writes at once
        self.session(tmp_path, 3, 4)
        assert not killed.parent.exists()
        assert len(self.sessions(tmp_path)) == 2

    def test_a_server_gets_every_step_once_though_the_run_was_killed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with wandb_server.serving() as (address, history):
            self.point_at(address, monkeypatch)
            self.session(tmp_path, 0, 6)
            killed = "[tracker.numbers(step, {'train/l2': 1 / step}) for step in range(5, 10)]"
            self.in_another_process(tmp_path, 4, 4, f"{killed}; os.kill(os.getpid(), signal.SIGKILL)")
            self.session(tmp_path, 8, 12)
            (rows,) = history.values()
        assert [(row["step"], row["train/l2"]) for row in rows] == [(step, 1 / step) for step in range(1, 13)]
        assert list(history) == [json.loads((tmp_path / "wandb.json").read_text())["id"]]

    def test_offline_sessions_arrive_as_one_run(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.session(tmp_path, 0, 6)
        self.session(tmp_path, 4, 9)
        with wandb_server.serving() as (address, history):
            self.point_at(address, monkeypatch)
            sync = [sys.executable, "-m", "wandb", "sync", str(tmp_path / "wandb")]
            done = subprocess.run(sync, cwd=tmp_path, capture_output=True, timeout=120, check=False)
            assert done.returncode == 0, done.stderr.decode()
            (rows,) = history.values()
        assert [(row["step"], row["train/l2"]) for row in rows] == [(step, 1 / step) for step in range(1, 10)]

    def session(self, folder: Path, start: int, stop: int) -> None:
        tracker = logging.trackers(self.CONFIG, folder, start)
        for step in range(start + 1, stop + 1):
            tracker.numbers(step, {"train/l2": 1 / step})
        tracker.close()

    def point_at(self, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
        import wandb

        wandb.teardown()  # it reads the environment once
        monkeypatch.setenv("WANDB_MODE", "online")
        monkeypatch.setenv("WANDB_BASE_URL", address)
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)

    def test_a_torn_offline_file_is_read_up_to_the_tear(self, tmp_path: Path) -> None:
        from pixel2style.training.logging.wandb import records

        tracker = logging.trackers(self.CONFIG, tmp_path, 0)
        for step in range(1, 400):  # several blocks of the file
            tracker.numbers(step, {"train/l2": 1 / step})
        tracker.close()
        (file,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
        whole = [str(record) for record in records(file)]
        assert self.told(tmp_path, "train/l2") == [(step, 1 / step) for step in range(1, 400)]
        assert file.stat().st_size > 2 * 32768
        torn = tmp_path / "torn"
        for length in (0, 3, 7, 10, 32768, 32770, 40000):
            torn.write_bytes(file.read_bytes()[:length])
            found = [str(record) for record in records(torn)]
            assert found == whole[: len(found)]

    def test_without_a_key_the_run_stays_offline_and_says_so_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.delenv("WANDB_MODE")
        tracker = logging.trackers(self.CONFIG, tmp_path, 0)
        tell(tracker, range(1, 3))
        tracker.close()
        assert self.told(tmp_path, "train/l2") == [(1, 1.0), (2, 0.5)]
        said = capsys.readouterr().err.strip().splitlines()
        assert len(said) == 1
        assert "wandb login" in said[0]
        assert "wandb sync" in said[0]

    def test_without_a_network_the_run_stays_offline_and_says_so(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("WANDB_MODE", "online")
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # where nobody listens
        monkeypatch.setattr("pixel2style.training.logging.wandb.PATIENCE", 1.0)
        tracker = logging.trackers(self.CONFIG, tmp_path, 0)
        tell(tracker, range(1, 3))
        tracker.close()
        assert self.told(tmp_path, "train/l2") == [(1, 1.0), (2, 0.5)]
        assert "cannot be reached" in capsys.readouterr().err

    def test_disabled_is_respected(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WANDB_MODE", "disabled")
        tracker = logging.trackers(self.CONFIG, tmp_path, 0)
        tell(tracker, range(1, 3))
        tracker.close()
        assert not (tmp_path / "wandb").exists()
        assert curve(tmp_path, "train/l2") == {1: 1.0, 2: 0.5}

    def test_a_service_that_is_gone_stops_the_telling_not_the_run(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        import wandb

        tracker = logging.trackers(self.CONFIG, tmp_path, 0)
        tell(tracker, range(1, 3))
        wandb.teardown()
        tell(tracker, range(3, 6))
        tracker.summary({"best_step": 5})
        tracker.close()
        assert list(curve(tmp_path, "train/l2")) == [1, 2, 3, 4, 5]
        said = capsys.readouterr().err
        assert said.count("told no more") == 1


def test_tracking_that_nobody_asked_for_is_not_imported(tmp_path: Path) -> None:
    code = "import sys, pixel2style.training.logging; print([n for n in ('wandb', 'tensorboard') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"
