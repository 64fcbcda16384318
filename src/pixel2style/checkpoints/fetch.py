"""The one door for files that are not here: addresses and the Hugging Face Hub, to paths of files that are whole.

A file is taken from an address only if its SHA-256 is known: said after ``#``, or recorded when it came before. Of a
file on the hub, the digest is what the hub itself records. What was fetched is kept (``cache``) and serves without a
network. This module does not know what is in a file; whoever reads it must not trust it.
"""

import os
import re
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, OutputError, complain
from ..files import cache_folder
from . import cache
from .addresses import check, shown
from .download import download, forget, writing

MODEL = "model.safetensors"
"""The file that a folder or a repository means."""
SUFFIXES = (".safetensors", ".pt", ".pth", ".pkl", ".ckpt", ".bin", ".tar", ".onnx")
"""What model files are called; ``a/b.pt`` is a file in a folder, not a repository."""

_HUB = re.compile(
    r"(?P<repo>[a-z0-9][\w.-]*/[a-z0-9][\w.-]*)(?:@(?P<revision>[\w.%-]+))?(?:/(?P<file>.+))?", re.A | re.I
)
_DIGITS = re.compile("[0-9a-f]{64}|[0-9a-f]{40}")
"""A SHA-256, or Git's SHA-1 of a file that is too small to be stored apart."""
_DIGEST = re.compile(r"sha256=([0-9a-f]{64})", re.I)


def local(source: str | Path, *, trust: bool = False, **options: Any) -> Path:
    """The file on this machine that ``source`` means, downloaded if need be.

    ``https://HOST/FILE#sha256=...``, ``hf://USER/REPO[@REVISION][/FILE]`` or the same without ``hf://`` where no such
    file or folder is here. A folder means the ``model.safetensors`` in it, as a repository does. Anything else is a
    path, and comes back as it is, whether the file exists or not. ``trust`` takes what an address brings and records
    its digest from then on; ``options`` are ``from_hub``'s.

    Raises CheckpointError when the file cannot be had or is not the one meant, OutputError when there is no room.
    """
    if isinstance(source, Path) or os.path.exists(source):  # noqa: PTH110 (an address may be too long for a path)
        return inside(Path(source))
    address, _, fragment = source.partition("#")
    scheme, colon, rest = address.partition("://")
    if not colon and not _is_hub(address):
        return Path(source)
    digest = _stated(source, fragment) if fragment else None
    if scheme.lower() == "hf" or not colon:
        return _from_hub(rest if colon else address, source, digest, options)
    return from_url(address, digest, trust=trust)


def inside(path: Path) -> Path:
    """``path``, or the model in it where it is a folder. Raises CheckpointError for a folder without one."""
    try:
        names = os.listdir(path)  # noqa: PTH208 (of anything that is no folder it is an OSError, too long names included)
    except (OSError, ValueError):
        return path
    if MODEL in names:
        return path / MODEL
    raise _no_model(str(path), names, f"{path}{os.sep}")


def _no_model(place: str, names: list[str], prefix: str) -> CheckpointError:
    models = sorted(name for name in names if name.endswith(SUFFIXES))
    meant = f"name one of {', '.join(prefix + name for name in models[:5])}" if models else "there is no model in it"
    return CheckpointError(f"{place}: holds no {MODEL}; {ascii(meant)[1:-1]}")


def _stated(source: str, fragment: str) -> str:
    found = _DIGEST.fullmatch(fragment)
    if not found:
        raise CheckpointError(f"{shown(source)}: what follows # must be sha256= and 64 hexadecimal digits")
    return found[1].lower()


def _is_hub(text: str) -> bool:
    """Whether a source without ``hf://`` means the hub: two names or more, of which the first is no folder here."""
    found = _HUB.fullmatch(text)
    if not found or Path(text.partition("/")[0]).exists():
        return False
    return found["file"] is not None or not found["repo"].endswith(SUFFIXES)


def from_url(url: str, digest: str | None, *, trust: bool = False) -> Path:
    """The file behind an address, whose SHA-256 is ``digest`` or the recorded one. Raises as ``local`` does."""
    check(url)
    digest = digest or _recorded(url)
    if found := _kept(digest):
        return found
    if cache.offline():
        raise CheckpointError(
            f"{shown(url)}: is not in {cache_folder()}, and PIXEL2STYLE_OFFLINE or HF_HUB_OFFLINE forbids to "
            "download it; unset them once"
        )
    if not digest and not trust:
        raise CheckpointError(
            f"{shown(url)}: add #sha256= and the file's SHA-256 to the address, so that no other file is taken for it, "
            "or record what comes now with: pixel2style fetch ADDRESS --trust"
        )
    part = cache_folder() / "partial" / f"{cache.key(url)}.part"
    with writing(part):
        part.parent.mkdir(parents=True, exist_ok=True)
    return _alone(part, lambda: _bring(url, digest, part))


def _bring(url: str, digest: str | None, part: Path) -> Path:
    digest = digest or _recorded(url)
    if found := _kept(digest):  # by a process that we have waited for
        return found
    came = download(url, part)
    if digest and came != digest:
        forget(part)
        raise CheckpointError(
            f"{shown(url)}: has the SHA-256 {came}, not {digest}; it was not kept; ask whoever gave you either"
        )
    name = re.sub(r"[^\w.-]", "_", urllib.parse.unquote(urllib.parse.urlsplit(url).path.rpartition("/")[2]), flags=re.A)
    file = _place(came) / (name.lstrip(".")[-80:] or "model")
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        with part.open("rb+") as content:
            os.fsync(content.fileno())
        part.replace(file)
        cache.remember(file, came)
        cache.note(_record(url), {"address": shown(url), "sha256": came})
    forget(part)
    return file


def _place(digest: str) -> Path:
    return cache_folder() / "files" / digest


def _record(url: str) -> Path:
    return cache_folder() / "addresses" / f"{cache.key(url)}.json"


def _recorded(url: str) -> str | None:
    """The SHA-256 that the address had when it was last fetched."""
    digest = cache.noted(_record(url)).get("sha256")
    return digest if isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest) else None


def _kept(digest: str | None) -> Path | None:
    """The whole file of that digest, from whatever address it came; damaged ones are removed."""
    if not digest or not _place(digest).is_dir():
        return None
    for file in sorted(_place(digest).iterdir()):
        if cache.is_whole(file, digest):
            return file
        with writing(file):
            file.unlink(missing_ok=True)
    return None


def _alone(part: Path, work: Callable[[], Path]) -> Path:
    """Do ``work`` while no other process does it; a process that ends, however, lets go."""
    from filelock import FileLock, Timeout

    lock = FileLock(part.with_suffix(".lock"))
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            complain("another process fetches the same file; waiting for it")
            lock.acquire()
    except OSError as error:
        raise OutputError(
            f"{part.parent}: cannot be written ({error.strerror}); set PIXEL2STYLE_CACHE to another folder"
        ) from error
    try:
        return work()
    finally:
        lock.release()


def _from_hub(place: str, source: str, digest: str | None, options: dict[str, Any]) -> Path:
    found = _HUB.fullmatch(place)
    if not found:
        raise CheckpointError(
            f"{ascii(source)[1:-1]}: is no place on the hub; give hf://USER/REPO or hf://USER/REPO/FILE"
        )
    revision = found["revision"] and urllib.parse.unquote(found["revision"])
    options = {"revision": revision, **{name: value for name, value in options.items() if value is not None}}
    return from_hub(found["repo"], found["file"] or MODEL, digest=digest, **options)


def from_hub(
    repo: str,
    file: str = MODEL,
    *,
    revision: str | None = None,
    digest: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
) -> Path:
    """A file of a repository on the Hugging Face Hub, in the hub's own cache; options as ``hf_hub_download`` has them.

    What came is compared with the digest that the hub records, and with ``digest`` where one is given. Raises as
    ``local`` does.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    named = f"hf://{repo}{f'@{revision}' if revision else ''}/{file}"
    if any(part in ("", ".", "..") for part in file.split("/")) or "\\" in file:
        raise CheckpointError(f"{ascii(named)[1:-1]}: is no file of a repository")
    unreachable = local_files_only or cache.offline()
    try:
        path = Path(
            hf_hub_download(
                repo, file, revision=revision, token=token, cache_dir=cache_dir, force_download=force_download,
                local_files_only=unreachable,
            )
        )  # fmt: skip
    except LocalEntryNotFoundError as error:
        why = "downloads are forbidden" if unreachable else "the hub cannot be reached"
        raise CheckpointError(f"{named}: was not fetched before, and {why}; try again online") from error
    except EntryNotFoundError as error:
        raise _missing(repo, revision, token, named) from error
    except failures() as error:
        raise CheckpointError(f"{named}: {_why(error)}") from error
    _verify(path, named, digest, lambda: _etag(repo, file, revision, token))
    return path


def failures() -> tuple[type[BaseException], ...]:
    """What the hub's client raises when it fails; of the library that it speaks HTTP with, whichever that is, too."""
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    return (*HfHubHTTPError.__bases__, EntryNotFoundError, OSError, ValueError, RuntimeError)


def _why(error: BaseException) -> str:
    """What the hub's client complains of, in our words: its own hold addresses and hints over many lines."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, GatedRepoError):
        return "its owner gives it to some only; ask for access on its page, then: hf auth login"
    if isinstance(error, RepositoryNotFoundError):
        return "there is no such file here and no such repository on the hub, or you may not see it (hf auth login)"
    if isinstance(error, RevisionNotFoundError):
        return "the repository has no such revision"
    return f"cannot be fetched ({type(error).__name__}); try again later"


def _missing(repo: str, revision: str | None, token: str | bool | None, named: str) -> CheckpointError:
    """What to say of a repository that lacks the file: which model files it has."""
    from huggingface_hub import HfApi

    try:
        names = HfApi(token=token).list_repo_files(repo, revision=revision)
    except failures():
        names = []
    at = f"@{revision}" if revision else ""
    if named.endswith(f"/{MODEL}"):
        return _no_model(f"hf://{repo}{at}", names, f"hf://{repo}{at}/")
    return CheckpointError(f"{named}: the repository has no such file; its models: {_listed(names)}")


def _listed(names: list[str]) -> str:
    return ascii(", ".join(sorted(name for name in names if name.endswith(SUFFIXES))[:5]) or "none")[1:-1]


def _etag(repo: str, file: str, revision: str | None, token: str | bool | None) -> str | None:
    """The digest that the hub states of a file, asked for anew."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    try:
        return get_hf_file_metadata(hf_hub_url(repo, file, revision=revision), token=token).etag
    except failures():
        return None


def _verify(path: Path, named: str, digest: str | None, etag: Callable[[], str | None]) -> None:
    """Compare a file of the hub's cache with the digests known of it. Raises CheckpointError, and removes the file."""
    blob = path.resolve()  # the cache calls it what the hub says of it, where the system has symbolic links
    stated = next(filter(_DIGITS.fullmatch, filter(None, (blob.name, digest or etag()))), None)
    if not stated:
        raise CheckpointError(f"{named}: the hub states no digest of it; add #sha256= and its SHA-256")
    if not cache.is_whole(blob, stated):
        with writing(blob):
            path.unlink(missing_ok=True)
            blob.unlink(missing_ok=True)
        raise CheckpointError(f"{named}: is not what it should be by its digest; it was removed, fetch it again")
    if digest and digest != stated and cache.digest_of(blob) != digest:
        raise CheckpointError(f"{named}: has another SHA-256 than {digest}; ask whoever gave you that")
