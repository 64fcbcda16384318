"""The editor adds nothing before it is trained, and nothing where an edit changes nothing; files give it back."""

from pathlib import Path

import pytest
import torch

from pixel2style.checkpoints.editor import bundled_editor, load_editor, write_editor
from pixel2style.config import GeneratorConfig
from pixel2style.editing.carry import Carrier
from pixel2style.errors import CheckpointError
from pixel2style.formats import safetensors
from pixel2style.generators import StyleGAN2
from pixel2style.models.editor import Editor, _face
from pixel2style.models.inversion import Inversion
from tests.support import small_inversion
from tests.support.golden_rule import arr

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def generator() -> StyleGAN2:
    return small_inversion.generator()


@pytest.fixture
def inversion(generator: StyleGAN2) -> Inversion:
    return small_inversion.inversion(generator, 1)


def editor(generator: StyleGAN2, trained: bool = True) -> Editor:
    torch.manual_seed(1)
    made = Editor({side: generator.map_channels()[side] for side in (16, 32)})
    for output in made.outputs.values() if trained else ():
        torch.nn.init.normal_(output.weight, std=0.1)
    return made.requires_grad_(False)


def test_an_untrained_editor_adds_nothing_and_a_trained_one_does(generator: StyleGAN2, inversion: Inversion) -> None:
    ws = inversion.ws + arr("direction", 16)
    plain = Carrier(generator, inversion).maps(ws)
    same = Carrier(generator, inversion, editor(generator, trained=False)).maps(ws)
    other = Carrier(generator, inversion, editor(generator)).maps(ws)
    for side, maps in plain.items():
        assert torch.equal(same[side], maps) and not torch.allclose(other[side], maps, atol=1e-3)


def test_where_an_edit_changes_nothing_nothing_is_added(generator: StyleGAN2, inversion: Inversion) -> None:
    """A small edit gets small additions; of maps that do not change there are none, to the bit."""
    own, change = generator.features(inversion.ws, 16), arr("change", 1, generator.map_channels()[16], 16, 16)
    sizes = []
    for amount in (0.0, 0.01, 1.0):
        after = own + amount * change
        added, _ = editor(generator)(own, own, after, inversion.features[16], torch.ones(1, 1, 16, 16), None)
        sizes.append(float(added.square().mean()))
    assert sizes[0] == 0 and 0 < sizes[1] < 1e-4 * sizes[2]


def test_gradients_pass_after_a_first_use_in_inference_mode(generator: StyleGAN2, inversion: Inversion) -> None:
    _face.cache_clear()
    carrier, own = Carrier(generator, inversion, editor(generator)), inversion.ws + arr("direction", 16)
    with torch.inference_mode():
        Carrier(generator, inversion, editor(generator)).maps(own)
    edited = own.clone().requires_grad_()
    carrier.maps(edited)[32].square().sum().backward()
    assert edited.grad is not None and edited.grad.any()


def test_features_of_other_maps_are_carried_by_rules_alone(generator: StyleGAN2, inversion: Inversion) -> None:
    few = Inversion(inversion.ws, {32: inversion.features[32]})
    ws = inversion.ws + arr("direction", 16)
    plain, same = (Carrier(generator, few, one).maps(ws) for one in (None, editor(generator)))
    assert torch.equal(plain[32], same[32])


def test_a_file_gives_back_the_editor_for_its_generator_only(generator: StyleGAN2, tmp_path: Path) -> None:
    file, made = tmp_path / "editor.safetensors", editor(generator)
    write_editor(made, generator, file)
    found = load_editor(file, generator)
    assert found is not None and found.channels == made.channels
    for key, value in made.state_dict().items():
        assert torch.allclose(found.state_dict()[key], value, atol=0.01 * float(value.abs().max()) + 1e-6)
    small = StyleGAN2(GeneratorConfig(size=16, width=16, mapping_layers=1, channels=(8, 8, 8)))
    assert load_editor(file, small) is None and bundled_editor(generator) is None


@pytest.mark.parametrize("damage", ["no metadata", "a part is missing"])
def test_other_files_are_refused(damage: str, generator: StyleGAN2, tmp_path: Path) -> None:
    file = tmp_path / "editor.safetensors"
    write_editor(editor(generator), generator, file)
    tensors, metadata = safetensors.read(file), safetensors.read_metadata(file)
    if damage == "no metadata":
        metadata = {}
    else:
        tensors.pop(next(iter(tensors)))
    safetensors.write({key: value.clone() for key, value in tensors.items()}, file, metadata)
    with pytest.raises(CheckpointError, match="holds no editor"):
        load_editor(file, generator)
