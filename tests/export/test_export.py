"""Exported graphs give the model's numbers for any batch size and describe themselves, or are not written."""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import pixel2style as p2s
from pixel2style import cli, export
from pixel2style.config import AliasFreeConfig, EncoderConfig, GeneratorConfig, ModelConfig
from pixel2style.errors import ConfigError, OutputError
from pixel2style.export import export_into, graphs
from pixel2style.generators.stylegan2.network import StyleGAN2
from pixel2style.generators.stylegan3.network import StyleGAN3
from pixel2style.models import encoders
from pixel2style.models.backbones.resnet34 import ResNet34
from pixel2style.models.psp import PSP
from tests.support.paths import ROOT
from tests.support.small_run import SHAPE

pytestmark = pytest.mark.usefixtures("one_thread")
PLAIN = GeneratorConfig(
    size=8, width=16, mapping_layers=1, channel_multiplier=1, channels=(16, 8), noise_width=24, classes=5, clamp=0.5
)
SIZE = 5
"""Of pictures: less than the generator's own."""


class Trunk(nn.Module):
    """Three taps and little else, so that a graph of it is traced quickly."""

    tap_channels = (8, 8, 8)
    recompute = False

    def __init__(self, channels: int):
        super().__init__()
        self.stem = nn.Conv2d(channels, 8, 3, padding=1)
        self.halve = nn.Conv2d(8, 8, 3, stride=2, padding=1)

    def taps(self, x: Tensor) -> tuple[Tensor, ...]:
        fine = self.halve(self.halve(self.stem(x))).tanh()
        middle = self.halve(fine)
        return fine, middle, self.halve(middle)


@pytest.fixture(scope="module", autouse=True)
def small_trunk() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(encoders.TRUNKS, "resnet34", Trunk)
        yield


def random_model(channels: int = 3, generator: GeneratorConfig = PLAIN, **changes: Any) -> PSP:
    """A model that sees ``channels``, and its own reconstruction twice; ``changes`` are of its encoder."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawer = StyleGAN2(generator)
        shape = {**vars(SHAPE), "pyramid_width": 16, "tower_width": 16, "head_width": 8, "trunk": "resnet34", **changes}
        config = EncoderConfig(**{**shape, "input_channels": channels + 3, "rows": drawer.rows, "width": drawer.width})
        model = PSP(
            encoders.build(config),
            drawer,
            ModelConfig(config, generator, feedback=True, iterations=2),
            torch.randn(drawer.rows, drawer.width),
            torch.rand(drawer.width) + 0.5,
        )
        for value in model.encoder.parameters():  # heads and necks that begin near zero would hide what they compute
            if value.ndim < 2 or not value.detach().any():
                torch.nn.init.normal_(value, std=0.1)
    return model.eval()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "small.v1.safetensors"
    p2s.save(random_model(), path)
    return path


@pytest.fixture(scope="module")
def folder(file: Path) -> Path:
    """Both halves of a small model, as ONNX; the generator draws ``SIZE`` pixels."""
    out = file.parent / "onnx"
    (encoder,) = export_into(out, file, "onnx", ("encoder",))
    (generator,) = export_into(out, file, "onnx", ("generator",), size=SIZE)
    assert [made.file.parent for made in (encoder, generator)] == [out] * 2
    return out


def run(path: Path, given: Tensor) -> list[Tensor]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return [torch.from_numpy(found) for found in session.run(None, {session.get_inputs()[0].name: given.numpy()})]


def pictures(count: int, side: int = 32) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(7)) * 2 - 1


def close(found: Tensor, wanted: Tensor) -> bool:
    return found.shape == wanted.shape and bool((found - wanted).abs().max() < 1e-4 * wanted.abs().max())


@pytest.mark.parametrize("count", [1, 2, 5])
@torch.no_grad()
def test_onnx_runtime_gives_the_models_numbers_for_any_number_of_pictures(file: Path, folder: Path, count: int) -> None:
    model, shown = p2s.load(file), pictures(count)
    ws = model.encode(shown)
    assert close(run(folder / "small.v1.encoder.onnx", shown)[0], ws)
    assert close(run(folder / "small.v1.generator.onnx", ws)[0], model.decode(ws, SIZE))


@torch.no_grad()
def test_every_iteration_of_a_model_with_feedback_is_in_its_graph(file: Path, folder: Path) -> None:
    model, shown = p2s.load(file), pictures(2)
    found = run(folder / "small.v1.encoder.onnx", shown)[0]
    assert not close(found, model.encode(shown, iterations=1))
    assert not close(found, model.encode(shown, iterations=3))


def test_a_graph_says_what_it_is(file: Path, folder: Path) -> None:
    model = p2s.load(file)
    for part, names in {"encoder": ["images", "ws"], "generator": ["ws", "drawn"]}.items():
        session = onnxruntime.InferenceSession(folder / f"small.v1.{part}.onnx")
        facts = session.get_modelmeta().custom_metadata_map
        config = model.config if part == "encoder" else model.config.generator
        assert facts["part"] == part
        assert facts["pixel2style"] == p2s.__version__
        assert type(config)(**json.loads(facts["config"])) == config
        ends = [session.get_inputs()[0], session.get_outputs()[0]]
        assert [end.name for end in ends] == names
        assert [end.shape[0] for end in ends] == ["batch", "batch"]
        assert all(str(end.shape[1:])[1:] in facts[end.name] for end in ends)
    read = onnx.load(folder / "small.v1.encoder.onnx")
    assert [(opset.domain, opset.version) for opset in read.opset_import] == [("", export.OPSET)]
    onnx.checker.check_model(read, full_check=True)


def test_a_graph_does_not_tell_where_it_was_made(folder: Path) -> None:
    for made in folder.glob("*.onnx"):
        content = made.read_bytes()
        assert str(Path(graphs.__file__).parent).encode() not in content
        assert b"stack_trace" not in content


@pytest.mark.filterwarnings("ignore:(?s).*get_attr:UserWarning")  # of PyTorch 2.6, where it reads its own
@torch.no_grad()
@pytest.mark.slow
def test_the_torch_export_is_read_by_pytorch(tmp_path: Path, file: Path) -> None:
    (made,) = export_into(tmp_path, file, "torch", ("whole",))
    assert made.gives["drawn"].error <= 1e-5 * made.gives["drawn"].largest
    facts = {"config": "", "images": ""}
    whole = torch.export.load(made.file, extra_files=facts).module()
    assert ModelConfig(**json.loads(facts["config"])) == p2s.load(file).config
    assert "[-1, 1], [batch, 3, 32, 32]" in facts["images"]
    for count in (1, 4):
        ws = p2s.load(file).encode(pictures(count))
        assert close(whole(pictures(count))[1], ws)


@torch.no_grad()
@pytest.mark.parametrize("kind", encoders.ENCODERS)
@pytest.mark.parametrize("trunk", ["ir_se50", "mobilefacenet", "resnet34"])
@pytest.mark.slow
def test_every_encoder_can_leave(tmp_path: Path, kind: Any, trunk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(encoders.TRUNKS, "resnet34", ResNet34)
    model = random_model(kind=kind, trunk=trunk, input_size=128)
    p2s.save(model, tmp_path / "model.safetensors")
    (made,) = export_into(tmp_path, tmp_path / "model.safetensors", "onnx", ("encoder",))
    assert close(run(made.file, pictures(2, 128))[0], model.encode(pictures(2, 128)))


@pytest.mark.parametrize(
    ("config", "size"),
    [
        (replace(PLAIN, size=16, channels=(16, 16, 8)), 11),
        (replace(PLAIN, noise_width=0, classes=0, clamp=None, mapping_layers=2), None),
    ],
)
@pytest.mark.slow
@torch.no_grad()
def test_generators_are_exported_at_any_size(tmp_path: Path, config: GeneratorConfig, size: int | None) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        generator = StyleGAN2(config).eval()
    p2s.save(generator, tmp_path / "alone.safetensors")
    (made,) = export_into(tmp_path, tmp_path / "alone.safetensors", "onnx", size=size)
    assert made.file.name == "alone.generator.onnx"
    ws = torch.randn(2, generator.rows, generator.width, generator=torch.Generator().manual_seed(0))
    assert close(run(made.file, ws)[0], generator.synthesize(ws, size))


@pytest.mark.slow
@pytest.mark.parametrize("form", export.SUFFIXES)
@pytest.mark.parametrize("alias_free", [AliasFreeConfig(layers=5), AliasFreeConfig(layers=5, kernel=1, radial=True)])
def test_stylegan3_is_exported(tmp_path: Path, form: Any, alias_free: AliasFreeConfig) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        config = GeneratorConfig(
            kind="stylegan3", size=16, width=16, mapping_layers=2, channels=(8,) * 6, alias_free=alias_free
        )
        p2s.save(StyleGAN3(config).eval(), tmp_path / "alias-free.safetensors")
    (made,) = export_into(tmp_path, tmp_path / "alias-free.safetensors", form)
    assert made.gives["drawn"].error <= 1e-5 * made.gives["drawn"].largest


@pytest.mark.parametrize(
    ("task", "channels"), [("sketch", 1), ("inpaint", 4), ("segmentation", 19), ("not installed", 5)]
)
def test_a_graph_is_tested_with_sources_of_its_task(task: str, channels: int) -> None:
    model = random_model(channels)
    model.config = replace(model.config, task=task)
    shown = graphs.graph_of(model, "encoder").example(2)
    assert shown.shape == (2, channels, 32, 32)
    assert float(shown.max()) <= 1
    if task == "inpaint":
        assert set(shown[:, 3].unique().tolist()) == {0.0, 1.0}
        assert not shown[:, :3][(shown[:, 3:] == 0).expand(-1, 3, -1, -1)].any()
        assert float(shown[:, :3].min()) < 0
    else:
        assert float(shown.min()) >= 0
    if task == "segmentation":
        assert torch.equal(shown.sum(1), torch.ones(2, 32, 32))


@pytest.mark.parametrize("form", ["torch", pytest.param("onnx", marks=pytest.mark.slow)])
def test_a_graph_with_other_numbers_is_refused_and_leaves_nothing(
    tmp_path: Path, file: Path, form: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, open_again = export.FORMS[form]

    def wrong(path: Path) -> Callable[[Tensor], list[Tensor]]:
        right = open_again(path)
        return lambda shown: [found * (1 + 2 * export.TOLERANCE) for found in right(shown)]

    monkeypatch.setitem(export.FORMS, form, (write, wrong))
    with pytest.raises(OutputError, match="nothing was written"):
        list(export_into(tmp_path, file, form, ("generator",)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_not_close(value: float) -> None:
    graph = graphs.graph_of(random_model(), "generator")
    spoiled = export.differences(graph, lambda ws: [graph.network(ws) + value if len(ws) == 1 else graph.network(ws)])
    assert not spoiled["drawn"].is_small
    assert export.differences(graph, lambda ws: [graph.network(ws)])["drawn"].is_small
    assert not export.differences(graph, lambda ws: [graph.network(ws)[:1]])["drawn"].is_small


@pytest.mark.parametrize("end", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_export_leaves_earlier_files(
    tmp_path: Path, file: Path, end: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "small.v1.generator.pt2"
    old.write_text("precious")

    def half(program: Any, graph: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise end

    monkeypatch.setitem(export.FORMS, "torch", (half, export.FORMS["torch"][1]))
    with pytest.raises((KeyboardInterrupt, OutputError)):
        list(export_into(tmp_path, file, "torch", ("generator",), overwrite=True))
    assert [(made, made.read_text()) for made in tmp_path.iterdir()] == [(old, "precious")]


@pytest.mark.filterwarnings("ignore:(?s).*get_attr:UserWarning")  # of PyTorch 2.6, where it reads its own
@pytest.mark.slow
def test_an_earlier_graph_is_kept_until_it_may_be_replaced(
    tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "small.v1.generator.pt2"
    old.write_text("precious")
    words = ["export", "torch", str(file), "--out", str(tmp_path), "--part", "generator"]
    assert cli.main(words) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert old.read_text() == "precious"
    assert cli.main([*words, "--overwrite", "--size", "4"]) == 0
    said = capsys.readouterr().out
    assert f"{old} (" in said
    assert "ws -> drawn" in said
    assert torch.export.load(old).module()(torch.zeros(2, 4, 16)).shape == (2, 3, 4, 4)


@pytest.mark.parametrize("missing", ["onnx", "onnxscript", "onnxruntime"])
def test_without_the_extra_one_sentence_says_what_to_install(
    tmp_path: Path, file: Path, missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    assert cli.main(["export", "onnx", str(file), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "pip install 'pixel2style[onnx]'" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("parts", "size", "told"),
    [(("encoder",), 8, "--part"), (("generator",), 9, "up to 8"), (("whole",), 0, "--size")],
)
def test_a_size_that_cannot_be_drawn_is_refused(tmp_path: Path, file: Path, parts: Any, size: int, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        list(export_into(tmp_path, file, "torch", parts, size=size))
    assert list(tmp_path.iterdir()) == []


def test_a_lone_generator_has_no_encoder_to_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    p2s.save(StyleGAN2(PLAIN), tmp_path / "alone.safetensors")
    assert (
        cli.main(["export", "torch", str(tmp_path / "alone.safetensors"), "--out", str(tmp_path), "--part", "whole"])
        == 2
    )
    assert "generator" in capsys.readouterr().err


@torch.no_grad()
@pytest.mark.slow
def test_the_bundled_model_is_exported_and_inverts_a_face_alike(tmp_path: Path) -> None:
    (made,) = export_into(tmp_path, "faces", "onnx", ("whole",), size=256)
    assert made.gives["ws"].error < 1e-4
    assert made.gives["drawn"].error < 1e-3
    face = p2s.Session("faces", "cpu").prepare(p2s.images.load(ROOT / "examples" / "astronaut.png"))
    model = p2s.load("faces")
    shown = model.fit(p2s.images.to_tensor(face)[None])
    drawn, ws = run(made.file, shown)
    assert close(ws, model.encode(shown))
    assert float((drawn - model.decode(ws, 256)).abs().max()) < 1e-3
    assert np.isfinite(drawn.numpy()).all()
