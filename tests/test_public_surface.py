"""What others build on: exported names, lazy imports, the version, the layout, and what a release must hold."""

import re
import subprocess
import sys
from importlib import metadata

import pytest

import pixel2style as p2s
from pixel2style.assets import cards
from tests.support.paths import ROOT


def test_exported_names_are_these_and_sorted() -> None:
    assert p2s.__all__ == [
        "PSP",
        "CheckpointError",
        "ConfigError",
        "ImageError",
        "NoFaceError",
        "NoRoomError",
        "OutputError",
        "Pixel2StyleError",
        "Result",
        "Session",
        "TrainingError",
        "UnsafeFileError",
        "__version__",
        "errors",
        "features",
        "latents",
        "load",
        "load_generator",
        "save",
    ]


@pytest.mark.parametrize("name", p2s.__all__)
def test_every_exported_name_is_there(name: str) -> None:
    assert getattr(p2s, name) is not None
    assert name in dir(p2s)


def test_the_promised_calls_are_there() -> None:
    for owner, name in [
        (p2s.latents, "mix"),
        (p2s.features, "LPIPS"),
        (p2s.features, "Identity"),
        (p2s.PSP, "encode"),
        (p2s.PSP, "decode"),
        (p2s.Session, "invert"),
    ]:
        assert callable(getattr(owner, name))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        p2s.nothing  # noqa: B018


def test_every_public_error_is_a_pixel2style_error() -> None:
    found = [value for value in vars(p2s.errors).values() if isinstance(value, type)]
    assert all(issubclass(error, p2s.Pixel2StyleError) for error in found)
    assert {error.__name__ for error in found} <= set(p2s.__all__)


@pytest.mark.parametrize(
    "program", ["import pixel2style", "from pixel2style.cli import main; main(['--version'])", "import pixel2style.cli"]
)
def test_torch_is_not_imported_before_it_is_needed(program: str) -> None:
    check = f"import sys\n{program}\nsys.exit('torch' in sys.modules or 'PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], stdout=subprocess.DEVNULL, check=False).returncode == 0


def test_the_changelog_begins_with_this_version() -> None:
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == p2s.__version__


def test_the_package_has_at_most_10_modules_and_18_folders() -> None:
    package = ROOT / "src" / "pixel2style"
    folders = [path for path in package.iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert len(list(package.glob("*.py"))) <= 10
    assert len(folders) <= 18


def test_the_installed_version_is_this_one() -> None:
    try:
        installed = metadata.version("pixel2style")
    except metadata.PackageNotFoundError:
        pytest.skip("run from the source tree without installing")
    assert installed == p2s.__version__


def test_every_bundled_file_has_a_card_and_is_in_the_notice() -> None:
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    folder = ROOT / "src" / "pixel2style" / "assets"
    bundled = sorted(folder.glob("*.safetensors"))
    assert bundled
    for file in bundled:
        assert {"origin", "licence"} <= set(cards.read(file).facts), file
        assert re.search(rf"^{re.escape(file.stem)}\b", notice, re.MULTILINE), file


def test_an_old_name_is_found_at_the_old_path_with_a_warning() -> None:
    sys.modules.pop("pixel2style.evaluate", None)
    with pytest.warns(DeprecationWarning, match=r"metrics\.scores"):
        from pixel2style.evaluate import Judges
    from pixel2style.metrics.scores import Scorer

    assert Judges is Scorer
