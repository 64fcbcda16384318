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
from pixel2style.training.logging.jsonl import LOG, JsonLines
from tests.support import wandb_server
from tests.support.paths import ASTRONAUT, PYTHONPATH

pytestmark = pytest.mark.usefixtures("one_thread")
PHOTO = ASTRONAUT
CONFIG = TrainConfig(data=("faces",), out="run", lr=3e-4, loss=LossConfig(lpips=0.7))


def rows(step: int) -> list[logging.Row]:
    """Two examples whose outputs approach their target with every step."""
    photo = images.resize(images.to_tensor(images.load(PHOTO))[None], 32)[0]
    return [
        logging.Row(
            name,
            {"source": turned.mean(0, keepdim=True).expand(3, -1, -1), "target": turned, "output": turned * step / 10},
            {"identity": step / 100, "lpips": 1 / step},
        )
        for name, turned in [("astronaut", photo), ("mirrored", photo.flip(-1))]
    ]


def log(tracker: logging.Tracker, steps: range) -> None:
    """What training logs: a loss every step, pictures and validation every fifth."""
    for step in steps:
        tracker.numbers(step, {"train/l2": 1 / step, "lr": 1e-4, "pictures_per_s": 3.5, "memory_gb": 1.25})
        if step % 5 == 0:
            tracker.numbers(step, {"validation/lpips": 2 / step})
            tracker.pictures(step, "train", rows(step))
            tracker.pictures(step, "validation", rows(step))


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / LOG).read_text().splitlines()]


def curve(folder: Path, name: str) -> dict[int, float]:
    points = [(line["step"], line[name]) for line in lines(folder) if name in line]
    assert len({step for step, _ in points}) == len(points), "a step twice"
    return dict(points)


class TestJsonLines:
    def test_every_number_is_on_a_line_with_its_step_at_once(self, tmp_path: Path) -> None:
        log(logging.make_tracker(CONFIG, tmp_path, 0), range(1, 6))  # not closed
        assert curve(tmp_path, "train/l2") == {step: 1 / step for step in range(1, 6)}
        assert curve(tmp_path, "validation/lpips") == {5: 0.4}

    def test_pictures_come_as_a_sheet_with_a_row_for_each_example(self, tmp_path: Path) -> None:
        log(logging.make_tracker(CONFIG, tmp_path, 0), range(5, 6))
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

    def test_a_sheet_of_many_examples_can_be_written(self, tmp_path: Path) -> None:
        many = [logging.Row(str(place), {"output": torch.zeros(3, 1024, 8)}, {}) for place in range(70)]
        tracker = JsonLines(tmp_path, 0)
        tracker.pictures(1, "validation", many)
        assert len(lines(tmp_path)[0]["rows"]) == 70

    def test_resuming_deletes_later_steps_and_a_truncated_line(self, tmp_path: Path) -> None:
        log(logging.make_tracker(CONFIG, tmp_path, 0), range(1, 11))
        with (tmp_path / LOG).open("a") as file:
            file.write('{"step": 11, "train/')
        resumed = logging.make_tracker(CONFIG, tmp_path, 7)
        assert max(line["step"] for line in lines(tmp_path)) == 7
        log(resumed, range(8, 11))
        assert curve(tmp_path, "train/l2") == {step: 1 / step for step in range(1, 11)}
        assert list(curve(tmp_path, "validation/lpips")) == [5, 10]
        assert not list(tmp_path.glob(".*.part"))

    def test_a_truncated_line_of_an_early_step_is_deleted(self, tmp_path: Path) -> None:
        (tmp_path / LOG).write_text('{"step": 1}\n{"step": 2}\nnonsense\n{"step": 3')
        logging.make_tracker(CONFIG, tmp_path, 3)
        assert [line["step"] for line in lines(tmp_path)] == [1, 2]

    def test_without_a_state_the_log_begins_anew(self, tmp_path: Path) -> None:
        log(logging.make_tracker(CONFIG, tmp_path, 0), range(1, 3))
        logging.make_tracker(CONFIG, tmp_path, 0)
        assert lines(tmp_path) == []

    def test_numbers_that_are_not_finite_are_null(self, tmp_path: Path) -> None:
        tracker = logging.make_tracker(CONFIG, tmp_path, 0)
        tracker.numbers(1, {"train/l2": float("nan"), "train/lpips": float("inf"), "lr": 0.5})
        assert lines(tmp_path) == [{"step": 1, "train/l2": None, "train/lpips": None, "lr": 0.5}]

    def test_the_summary_is_the_last_line(self, tmp_path: Path) -> None:
        tracker = logging.make_tracker(CONFIG, tmp_path, 0)
        log(tracker, range(1, 3))
        tracker.summary({"best_step": 2, "lpips": 0.25, "file": "model.safetensors"})
        assert lines(tmp_path)[-1] == {
            "step": 2,
            "summary": {"best_step": 2, "lpips": 0.25, "file": "model.safetensors"},
        }

    def test_a_folder_that_cannot_be_written_is_an_output_error(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(OutputError, match="file"):
            logging.make_tracker(CONFIG, tmp_path / "file", 0)


@pytest.mark.parametrize("package", ["tensorboard", "wandb"])
def test_a_missing_package_is_named_before_anything_is_written(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=rf'--track {package} .*pip install "pixel2style\[track\]"'):
        logging.make_tracker(TrainConfig(track=(package,)), tmp_path / "run", 0)
    assert not (tmp_path / "run").exists()


class TestTensorBoard:
    CONFIG = TrainConfig(data=("faces",), out="run", lr=3e-4, track=("tensorboard",))

    def read(self, folder: Path) -> Any:
        events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
        found = events.EventAccumulator(
            str(folder / "tensorboard"), size_guidance={"scalars": 0, "images": 0, "tensors": 0}
        )
        return found.Reload()

    def test_curves_have_the_runs_step_across_a_kill(self, tmp_path: Path) -> None:
        pytest.importorskip("tensorboard")
        log(logging.make_tracker(self.CONFIG, tmp_path, 0), range(1, 10))  # killed: never closed
        second = logging.make_tracker(self.CONFIG, tmp_path, 7)
        log(second, range(8, 13))
        second.close()
        found = self.read(tmp_path)
        assert {e.step: e.value for e in found.Scalars("train/l2")} == pytest.approx({s: 1 / s for s in range(1, 13)})
        assert len(found.Scalars("train/l2")) == 12
        assert [event.step for event in found.Scalars("validation/lpips")] == [5, 10]
        assert {"lr", "pictures_per_s", "memory_gb"} <= set(found.Tags()["scalars"])

    def test_pictures_scores_configuration_and_summary_are_in_it(self, tmp_path: Path) -> None:
        pytest.importorskip("tensorboard")
        tracker = logging.make_tracker(self.CONFIG, tmp_path, 0)
        log(tracker, range(5, 11))
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
        monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
        monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "nothing"))
        monkeypatch.setenv("WANDB_MODE", "offline")
        wandb.teardown()
        yield
        wandb.teardown()
        gc.collect()  # here, where the warning is ignored

    @pytest.fixture
    def runs(self) -> Iterator[wandb_server.Runs]:
        with wandb_server.serving() as (self.address, runs):
            yield runs

    @pytest.fixture
    def online(self, runs: wandb_server.Runs, monkeypatch: pytest.MonkeyPatch) -> wandb_server.Runs:
        """What arrives at a server that W&B is connected to."""
        self.connect(monkeypatch)
        return runs

    def connect(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import wandb

        wandb.teardown()  # it reads the environment once
        monkeypatch.setenv("WANDB_MODE", "online")
        monkeypatch.setenv("WANDB_BASE_URL", self.address)
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)

    def sync(self, folder: Path, runs: wandb_server.Runs, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, float]]:
        """Send what was kept offline; the loss by step, as it arrives."""
        self.connect(monkeypatch)
        command = [sys.executable, "-m", "wandb", "sync", str(folder / "wandb")]
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return self.curve(runs)

    def curve(self, runs: wandb_server.Runs) -> list[tuple[int, float]]:
        (received,) = (received for received in runs.values() if received.history)
        return [(row["step"], row["train/l2"]) for row in received.history if "train/l2" in row]

    def session(self, folder: Path, start: int, stop: int, failed: bool = False) -> None:
        tracker = logging.make_tracker(self.CONFIG, folder, start)
        for step in range(start + 1, stop + 1):
            tracker.numbers(step, {"train/l2": 1 / step})
        tracker.close(failed)

    def killed_session(self, folder: Path, start: int, stop: int) -> None:
        code = f"""
            import os, signal
            from pathlib import Path
            from tests.training.test_logging import TestWandb, logging
            tracker = logging.make_tracker(TestWandb.CONFIG, Path({str(folder)!r}), {start})
            for step in range({start + 1}, {stop + 1}): tracker.numbers(step, {{"train/l2": 1 / step}})
            os.kill(os.getpid(), signal.SIGKILL)
        """
        script = "\n".join(line.strip() for line in code.splitlines())
        command = [sys.executable, "-c", script]
        environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
        done = subprocess.run(command, env=environment, capture_output=True, timeout=240, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()

    def test_numbers_configuration_and_summary_arrive(self, tmp_path: Path, online: wandb_server.Runs) -> None:
        tracker = logging.make_tracker(self.CONFIG, tmp_path, 0)
        for step in range(1, 11):
            tracker.numbers(step, {"train/l2": 1 / step, "lr": 1e-4})
            if step % 5 == 0:
                tracker.numbers(step, {"validation/lpips": 2 / step})
        tracker.summary({"best_step": 10, "lpips": 0.2, "file": "model.safetensors"})
        tracker.close()
        (name,) = online
        received = online[name]
        assert name == json.loads((tmp_path / "wandb.json").read_text())["id"]
        assert self.curve(online) == [(step, 1 / step) for step in range(1, 11)]
        assert [(row["step"], row["validation/lpips"]) for row in received.history if "validation/lpips" in row] == [
            (5, 0.4),
            (10, 0.2),
        ]
        assert received.config["lr"] == 3e-4
        assert received.config["loss"]["lpips"] == 0.7
        assert received.summary["file"] == "model.safetensors"
        assert received.exit_codes == [0]

    @pytest.mark.slow
    def test_a_resumed_run_is_the_same_and_no_step_is_sent_twice(
        self, tmp_path: Path, online: wandb_server.Runs
    ) -> None:
        self.session(tmp_path, 0, 10, failed=True)
        self.session(tmp_path, 6, 15)  # the last state is four steps back
        (received,) = online.values()
        assert self.curve(online) == [(step, 1 / step) for step in range(1, 16)]
        assert [row["_step"] for row in received.history] == list(range(1, 16))
        assert received.exit_codes == [1, 0]

    @pytest.mark.slow
    def test_a_run_that_is_tracked_later_is_sent_from_its_start(
        self, tmp_path: Path, online: wandb_server.Runs
    ) -> None:
        before = logging.make_tracker(CONFIG, tmp_path, 0)
        for step in range(1, 6):
            before.numbers(step, {"train/l2": 1 / step})
        self.session(tmp_path, 5, 8)
        assert self.curve(online) == [(step, 1 / step) for step in range(1, 9)]

    @pytest.mark.slow
    def test_a_server_gets_every_step_once_though_the_run_was_killed(
        self, tmp_path: Path, online: wandb_server.Runs
    ) -> None:
        self.session(tmp_path, 0, 6)
        self.killed_session(tmp_path, 4, 9)
        self.session(tmp_path, 8, 12)
        assert self.curve(online) == [(step, 1 / step) for step in range(1, 13)]
        assert len(online) == 1

    @pytest.mark.slow
    def test_offline_sessions_arrive_as_one_run(
        self, tmp_path: Path, runs: wandb_server.Runs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.session(tmp_path, 0, 6)
        self.session(tmp_path, 4, 9)
        assert self.sync(tmp_path, runs, monkeypatch) == [(step, 1 / step) for step in range(1, 10)]

    @pytest.mark.slow
    def test_a_killed_offline_session_loses_its_last_steps_at_most(
        self, tmp_path: Path, runs: wandb_server.Runs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.session(tmp_path, 0, 6)
        self.killed_session(tmp_path, 6, 9)
        self.session(tmp_path, 8, 12)
        found = self.sync(tmp_path, runs, monkeypatch)
        assert found == sorted(set(found))
        assert {1, 2, 3, 4, 5, 6, 9, 10, 11, 12} <= {step for step, _ in found}

    def test_every_table_of_a_name_has_the_same_columns_and_its_step(self, tmp_path: Path) -> None:
        tracker = logging.make_tracker(self.CONFIG, tmp_path, 0)
        log(tracker, range(5, 11))
        tracker.close()
        for name in ("train", "validation"):
            files = (tmp_path / "wandb").glob(f"offline-run-*/files/media/table/{name}/*.json")
            tables = [json.loads(file.read_text()) for file in files]
            assert all(
                table["columns"] == ["step", "name", *rows(5)[0].pictures, "identity", "lpips"] for table in tables
            )
            found = sorted((line[0], line[1], *line[-2:]) for table in tables for line in table["data"])
            assert found == [
                (step, example, step / 100, 1 / step) for step in (5, 10) for example in ("astronaut", "mirrored")
            ]

    @pytest.mark.slow
    def test_pictures_wait_in_the_folder_of_the_run(self, tmp_path: Path) -> None:
        tracker = logging.make_tracker(self.CONFIG, tmp_path, 0)
        log(tracker, range(5, 6))
        tracker.close()
        waiting = [path for path in (tmp_path / "wandb" / "data").rglob("*") if path.is_file()]
        assert sum(path.read_bytes().startswith(b"\xff\xd8\xff") for path in waiting) >= 2 * 6
        assert "WANDB_DATA_DIR" not in os.environ

    @pytest.mark.slow
    def test_without_a_key_the_run_stays_offline_and_one_line_is_printed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.delenv("WANDB_MODE")
        self.session(tmp_path, 0, 2)
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert "wandb login" in line
        assert "wandb sync" in line
        assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 1

    @pytest.mark.slow
    def test_without_a_network_the_run_stays_offline_and_loses_nothing(
        self,
        tmp_path: Path,
        runs: wandb_server.Runs,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setenv("WANDB_MODE", "online")
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # where nothing listens
        monkeypatch.setattr("pixel2style.training.logging.wandb.TIMEOUT", 1.0)
        self.session(tmp_path, 0, 2)
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
        assert self.sync(tmp_path, runs, monkeypatch) == [(1, 1.0), (2, 0.5)]

    def test_disabled_is_respected(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WANDB_MODE", "disabled")
        self.session(tmp_path, 0, 2)
        assert not (tmp_path / "wandb").exists()
        assert curve(tmp_path, "train/l2") == {1: 1.0, 2: 0.5}

    def test_a_service_that_is_gone_does_not_stop_the_run(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        import wandb

        tracker = logging.make_tracker(self.CONFIG, tmp_path, 0)
        log(tracker, range(1, 3))
        wandb.teardown()
        log(tracker, range(3, 6))
        tracker.summary({"best_step": 5})
        tracker.close()
        assert list(curve(tmp_path, "train/l2")) == [1, 2, 3, 4, 5]
        assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_trackers_that_are_not_asked_for_are_not_imported(tmp_path: Path) -> None:
    code = "import sys, pixel2style.training.logging; print([n for n in ('wandb', 'tensorboard') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"
