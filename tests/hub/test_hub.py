"""Models survive a round trip through a folder or the hub; their card has known facts only.

The hub is ``hub_server``, spoken to by the real client in processes of their own: it reads its address on import.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import pixel2style as p2s
from pixel2style.checkpoints import resolve
from pixel2style.config import TrainConfig
from pixel2style.errors import CheckpointError, ConfigError, OutputError
from pixel2style.hub import card as hubcard
from pixel2style.hub import repository as hub
from pixel2style.training.run_folder import RunFolder
from tests.support.hub_server import Hub, running
from tests.support.paths import PYTHONPATH
from tests.support.small_run import small_config
from tests.support.stand_in import same, tiny_model

pytestmark = pytest.mark.usefixtures("one_thread")


def front_matter(card: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(card.split("---\n")[1])
    return found


def test_a_folder_gives_back_what_was_saved(tmp_path: Path) -> None:
    model = tiny_model()
    assert model.save_pretrained(tmp_path / "made" / "here") is None
    back = p2s.PSP.from_pretrained(tmp_path / "made" / "here")
    assert isinstance(back, p2s.PSP)
    assert same(back, model)
    assert back.config == model.config
    assert same(p2s.load(str(tmp_path / "made" / "here")), model)
    written = {file.name for file in (tmp_path / "made" / "here").iterdir()}
    assert written == {"README.md", "config.json", "model.safetensors"}


@pytest.mark.slow
def test_a_saved_model_is_complete_and_may_be_half_as_large(tmp_path: Path) -> None:
    p2s.load("faces").save_pretrained(tmp_path, dtype=torch.float16)
    model = p2s.PSP.from_pretrained(tmp_path)
    with (tmp_path / "model.safetensors").open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    assert "generator" not in header["__metadata__"]
    assert (tmp_path / "model.safetensors").stat().st_size < 54e6
    for key, value in p2s.load("faces").state_dict().items():  # a byte a number times its step is no half
        assert torch.allclose(model.state_dict()[key], value, rtol=1e-3, atol=1e-7), key


def test_the_configuration_beside_the_weights_is_not_believed(tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path)
    for content in ("[]", "{}", '{"model": 1}', "not JSON"):
        (tmp_path / "config.json").write_text(content, encoding="utf-8")
        assert same(p2s.PSP.from_pretrained(tmp_path), tiny_model())


def test_a_folder_without_our_model_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "psp_ffhq.pt").touch()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(CheckpointError, match=rf"holds no model.safetensors; name one of {tmp_path}/psp_ffhq.pt$"):
        p2s.PSP.from_pretrained(tmp_path)
    (tmp_path / "psp_ffhq.pt").unlink()
    with pytest.raises(CheckpointError, match="there is no model in it"):
        p2s.load(str(tmp_path))


def test_a_card_that_its_author_edited_is_kept_and_ours_is_renewed(tmp_path: Path) -> None:
    model, card = tiny_model(), tmp_path / "README.md"
    model.save_pretrained(tmp_path)
    model.save_pretrained(tmp_path, license="mit")
    assert front_matter(card.read_text(encoding="utf-8"))["license"] == "mit"
    edited = card.read_text(encoding="utf-8").replace("Not measured.", "Very good.")
    card.write_text(edited, encoding="utf-8")
    model.save_pretrained(tmp_path, license="apache-2.0")
    assert card.read_text(encoding="utf-8") == edited


def test_a_run_is_not_saved_over(tmp_path: Path) -> None:
    config = small_config(tmp_path)
    RunFolder(config.out).write_config(config)
    with pytest.raises(OutputError, match="choose another folder"):
        tiny_model().save_pretrained(config.out)
    assert [file.name for file in Path(config.out).iterdir()] == ["config.json"]


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        tiny_model().save_pretrained(tmp_path / "file" / "below")


def test_a_card_says_what_is_known_and_that_the_rest_is_not() -> None:
    card = hub.Repository(tiny_model()).generate_model_card().content
    assert "Not measured." in card
    assert "Not recorded." in card
    assert "stated no licence" in card
    assert "4 of 16 numbers" in card
    assert "8 x 8 pixels" in card
    known = front_matter(card)
    assert known["library_name"] == "pixel2style"
    assert known["pipeline_tag"] == "image-to-image"
    assert not {"license", "metrics", "model-index"} & known.keys()


@pytest.mark.parametrize(
    ("task", "command"),
    [("invert", "invert photo.jpg"), ("superres", "translate superres picture.png"), ("unknown", "invert photo.jpg")],
)
def test_a_card_names_the_command_that_a_model_is_for(task: str, command: str) -> None:
    card = hubcard.card(replace(tiny_model().config, task=task), hubcard.Facts())
    assert f"`pixel2style {command} --model hf://USER/REPO --out results`" in card


def test_a_card_shows_metrics_to_people_and_to_programs() -> None:
    repository = hub.Repository(tiny_model(), metrics={"lpips": 0.26617}, measured_on="100 faces", license="mit")
    card = repository.generate_model_card().content
    assert "Measured on 100 faces." in card
    assert "| LPIPS, AlexNet (less) | 0.2662 |" in card
    known = front_matter(card)
    assert known["license"] == "mit"
    assert known["metrics"] == ["lpips"]
    result = known["model-index"][0]["results"][0]
    assert (result["dataset"]["name"], result["metrics"]) == ("100 faces", [{"type": "lpips", "value": 0.2662}])


def test_the_example_of_a_card_runs_on_what_the_card_is_of(tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text(encoding="utf-8").replace("USER/REPO", str(tmp_path))
    example = "\n".join(line[4:] for line in card.splitlines() if line.startswith("    "))
    said: dict[str, Any] = {"images": torch.zeros(2, 3, 32, 32)}
    exec(example, said)
    assert said["pictures"].shape == (2, 3, 8, 8)


def test_text_of_users_is_escaped_on_a_card() -> None:
    metrics = {"x | y\n---\n# no": 1.0}
    card = hub.Repository(
        tiny_model(task="<b>x</b>"), metrics=metrics, measured_on="a\n\n# b", license="mit: [x"
    ).generate_model_card().content  # fmt: skip
    assert front_matter(card)["license"] == "mit: [x"
    body = card.split("---\n", 2)[2]
    assert not [line for line in body.splitlines() if line.startswith(("# no", "# b"))]
    assert "<b>" not in body


@pytest.fixture
def finished_run(tmp_path: Path) -> tuple[Path, TrainConfig]:
    """The folder of a run whose second judgement, of its last model, was worse than its first."""
    config = replace(small_config(tmp_path), validation=("/private/me/held-out",), lr=0.003)
    folder = RunFolder(config.out)
    folder.write_config(config)
    p2s.save(tiny_model(1), folder.best)
    p2s.save(tiny_model(2), folder.model)
    (folder.path / "state-00000008.pt").touch()
    lines = [
        {"step": 4, "scores/l2": 0.5, "scores/lpips": 0.25},
        {"step": 4, "summary": {"best/step": 4, "best/loss": 0.7, "best/l2": 0.5, "best/file": "x"}},
        {"step": 8, "scores/l2": 0.625, "scores/lpips": 0.375},
        {"step": 8, "train/loss": 9.0},
    ]
    text = "\n".join(json.dumps(line) for line in lines)
    (folder.path / "log.jsonl").write_text(text + '\n{"step": 9, "scor', encoding="utf-8")
    return folder.path, config


def test_a_card_of_a_runs_last_model_has_the_last_scores(finished_run: tuple[Path, TrainConfig]) -> None:
    card = hub.Repository(tiny_model(2), run=finished_run[0]).generate_model_card().content
    assert "| L2 (less is better) | 0.6250 |" in card
    assert "(held-out), at step 8" in card
    assert "| steps | 8 |" in card
    assert "lr 0.003" in card
    assert "/private" not in card
    assert str(finished_run[0].parent) not in card


def test_a_card_of_a_runs_best_model_has_its_own_scores(finished_run: tuple[Path, TrainConfig]) -> None:
    card = hub.Repository(tiny_model(1), run=finished_run[0]).generate_model_card().content
    assert "| L2 (less is better) | 0.5000 |" in card
    assert "at step 4" in card
    assert "0.625" not in card


def test_a_run_of_another_model_is_refused(finished_run: tuple[Path, TrainConfig]) -> None:
    with pytest.raises(ConfigError, match="holds another model than this one"):
        tiny_model(3).save_pretrained(finished_run[0].parent / "shared", run=finished_run[0])
    with pytest.raises(ConfigError, match="cannot be read"):
        tiny_model(3).save_pretrained(finished_run[0].parent / "shared", run=finished_run[0] / "nowhere")


def test_a_run_without_scores_is_not_measured(finished_run: tuple[Path, TrainConfig]) -> None:
    (finished_run[0] / "log.jsonl").unlink()
    card = hub.Repository(tiny_model(2), run=finished_run[0]).generate_model_card().content
    assert "Not measured." in card
    assert "| steps | 8 |" in card


def test_any_edit_of_a_card_but_line_endings_is_recognised() -> None:
    card = hubcard.card(tiny_model().config, hubcard.Facts())
    assert hubcard.is_untouched(card)
    assert hubcard.is_untouched(card.replace("\n", "\r\n"))
    assert not hubcard.is_untouched(card.replace("frozen", "free"))
    assert not hubcard.is_untouched(card + "\nMore.")
    assert not hubcard.is_untouched("")
    assert not hubcard.is_untouched("# Mine")


SCRIPT = """
import json, os, sys
from tests.support.stand_in import same, tiny_model
import pixel2style as p2s
from pixel2style.checkpoints import resolve
said = []
def tell(value): said.append(value)
def attempt(work):
    try: tell(work())
    except p2s.Pixel2StyleError as error: tell(str(error))
{body}
print(json.dumps(said))
"""


def with_hub(hub_: Hub, folder: Path, body: str) -> list[Any]:
    """What ``body`` told, run where ``hub_`` is the hub."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PIXEL2STYLE_"))},
        "HF_ENDPOINT": hub_.address, "HF_HOME": str(folder / "hf"), "HF_TOKEN": "hf_secret",
        "PIXEL2STYLE_CACHE": str(folder / "cache"), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_ETAG_TIMEOUT": "60", "HF_HUB_DOWNLOAD_TIMEOUT": "60",
        "OMP_NUM_THREADS": "1", "PYTHONPATH": PYTHONPATH,
    }  # fmt: skip
    script = SCRIPT.format(body=body)
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "hf_secret" not in done.stdout + done.stderr
    found: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_model_goes_to_the_hub_and_comes_back(tmp_path: Path) -> None:
    with running(Hub()) as there:
        said = with_hub(
            there,
            tmp_path,
            """
model = tiny_model()
tell("huggingface_hub" in sys.modules)  # whoever only uses models does not wait for it
tell(model.push_to_hub("thing", license="mit", commit_message="first"))
for load in (p2s.PSP.from_pretrained, p2s.load):
    tell(same(load("somebody/thing"), model))
tell(same(p2s.load("hf://somebody/thing@main/model.safetensors"), model))
tell(same(p2s.PSP.from_pretrained("somebody/thing", revision=resolve.local("somebody/thing").parent.name), model))
os.environ["PIXEL2STYLE_OFFLINE"] = "1"
attempt(lambda: p2s.load("somebody/other"))
tell(same(p2s.load("somebody/thing"), model))
""",
        )
        files = there.repos["somebody/thing"]
    assert said[0] is False
    assert said[1].startswith(f"{there.address}/somebody/thing/")
    assert said[2:6] == [True] * 4
    assert "somebody/other/model.safetensors: was not downloaded before, and downloads are forbidden" in said[6]
    assert said[7] is True
    assert sorted(files) == ["README.md", "config.json", "model.safetensors"]
    card = files["README.md"].decode()
    assert 'from_pretrained("somebody/thing")' in card
    assert front_matter(card)["license"] == "mit"
    assert sum(asked.startswith("GET") and asked.endswith(resolve.MODEL) for asked in there.asked) == 1


@pytest.mark.slow
def test_a_card_that_was_edited_on_the_hub_survives_the_next_push(tmp_path: Path) -> None:
    with running(Hub({"me/thing": {}})) as there:
        renewed, edited = with_hub(
            there,
            tmp_path,
            """
from huggingface_hub import HfApi, hf_hub_download
for seed, license in enumerate(("mit", "apache-2.0")):
    tiny_model(seed).push_to_hub("me/thing", license=license)
card = open(hf_hub_download("me/thing", "README.md")).read()
edited = card.replace("Not measured.", "Splendid.")
HfApi().upload_file(repo_id="me/thing", path_or_fileobj=edited.encode(), path_in_repo="README.md")
tiny_model(2).push_to_hub("me/thing", license="mit")
said += [card, edited]
""",
        )
    files = there.repos["me/thing"]
    assert front_matter(renewed)["license"] == "apache-2.0"
    assert files["README.md"].decode() == edited != renewed
    (tmp_path / resolve.MODEL).write_bytes(files[resolve.MODEL])
    assert same(p2s.load(tmp_path / resolve.MODEL), tiny_model(2))


@pytest.mark.slow
def test_missing_and_damaged_files_of_the_hub_are_refused(tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path / "made")
    weights = (tmp_path / "made" / resolve.MODEL).read_bytes()
    files = {"old.pt": b"PK", "notes.txt": b"", "sub/m.safetensors": weights, "lie.safetensors": weights}
    with running(Hub({"me/thing": files}, says={"lie.safetensors": "0" * 64})) as there:
        said = with_hub(
            there,
            tmp_path,
            """
for place in ("me/thing", "me/nothing", "me/thing@v9/old.pt", "hf://me/thing/new.pt", "me/thing/../x", "hf://me",
    "me/thing/lie.safetensors", "me/thing/lie.safetensors", "me/thing/sub/m.safetensors#sha256=" + "1" * 64,
    "me/thing/old.pt"):
    attempt(lambda: p2s.load(place))
tell(same(p2s.load("me/thing/sub/m.safetensors"), tiny_model()))
""",
        )
    wanted = [
        "hf://me/thing: holds no model.safetensors; name one of hf://me/thing/lie.safetensors, hf://me/thing/old.pt",
        "no such repository on the hub", "no such revision", "no such file; its models: lie.safetensors, old.pt",
        "is no file of a repository", "is no place on the hub", "does not have the digest",
        "does not have the digest", "has another SHA-256 than 111", "old.pt: is ",
    ]  # fmt: skip
    for sentence, part in zip(said, wanted, strict=False):
        assert part in sentence
    assert said[-1] is True
    assert not list((tmp_path / "hf").rglob("0" * 64))
