"""Files from addresses (pooch) and from the Hugging Face Hub (its client): downloaded once, verified, kept.

A file is taken from an address only if its SHA-256 is known: given, or recorded by an earlier download. Of a file on
the hub the digest is the one that the hub records. Nothing here looks into a file; readers must not trust it.
"""

import contextlib
import hashlib
import ipaddress
import json
import os
import re
import shutil
import time
import urllib.parse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, OutputError, complain
from ..files import cache_folder, reason, write_json

MODEL = "model.safetensors"
"""The file that a folder or a repository stands for."""
SUFFIXES = (".safetensors", ".pt", ".pth", ".pkl", ".ckpt", ".bin", ".tar", ".onnx")
"""Suffixes of model files; ``a/b.pt`` is a file in a folder, not a repository."""
MAX_BYTES = 8 << 30
"""Larger than any known file of weights."""
SPARE_BYTES = 64 << 20
"""Bytes of the disk that a download leaves free."""
TRIES, PAUSE, TIMEOUT = 3, 0.5, 30.0
"""Attempts, seconds between them, and seconds without a byte after which one has failed."""

_DIGITS = re.compile("[0-9a-f]{64}|[0-9a-f]{40}")
"""A SHA-256, or Git's SHA-1 of a file that the hub stores in Git itself."""
_BUSY = {408, 425, 429, 500, 502, 503, 504}
"""Answers of servers that may give another one soon."""


def is_offline() -> bool:
    """Whether the environment forbids downloads: ``PIXEL2STYLE_OFFLINE`` or ``HF_HUB_OFFLINE``."""
    set_to = (os.environ.get(name, "") for name in ("PIXEL2STYLE_OFFLINE", "HF_HUB_OFFLINE"))
    return any(value.strip().lower() in ("1", "true", "yes", "on") for value in set_to)


def shown(url: str) -> str:
    """An address as messages may show it: without query, which may hold a token, fragment and password."""
    try:
        parts = urllib.parse.urlsplit(url)
        place = parts.netloc.rpartition("@")[2]
        return ascii(f"{parts.scheme}://{place}{parts.path}"[:200])[1:-1]
    except ValueError:
        return ascii(url[:40])[1:-1]


def check_address(url: str) -> None:
    """Raise CheckpointError for an address that is neither https nor http on this machine, or holds a password."""
    try:
        parts = urllib.parse.urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise CheckpointError(f"{shown(url)}: is no address; give https://HOST/FILE") from None
    if parts.username is not None or parts.password is not None:
        raise CheckpointError(f"{shown(url)}: holds a password; give an address that needs none")
    if not host or parts.scheme not in ("http", "https"):
        raise CheckpointError(f"{shown(url)}: only https addresses are downloaded; for a file here, give its path")
    if parts.scheme == "http" and not _is_this_machine(host):
        raise CheckpointError(f"{shown(url)}: is not encrypted, so it could be changed on the way; use https")


def _is_this_machine(host: str | None) -> bool:
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return host == "localhost"


def from_url(url: str, digest: str | None, *, trust: bool = False) -> Path:
    """The file behind an address, whose SHA-256 is ``digest`` or the recorded one. Raises as ``local`` does."""
    check_address(url)
    if found := _kept(digest or _recorded(url)):
        return found
    if is_offline():
        raise CheckpointError(
            f"{shown(url)}: is not in {cache_folder()}, and PIXEL2STYLE_OFFLINE or HF_HUB_OFFLINE forbids to "
            "download it; unset them once"
        )
    if not digest and not trust and not _recorded(url):
        raise CheckpointError(
            f"{shown(url)}: add #sha256= and the file's SHA-256 to the address, so that no other file is taken for it, "
            "or record what comes now with: pixel2style fetch ADDRESS --trust"
        )
    with _locked(cache_folder() / "partial" / _key(url)) as work:
        wanted = digest or _recorded(url)
        return _kept(wanted) or _download(url, wanted, work)  # another process may have downloaded it meanwhile


@contextlib.contextmanager
def _locked(work: Path) -> Iterator[Path]:
    """An empty folder ``work`` that no other process uses, removed at the end; OutputError where there can be none."""
    from filelock import FileLock, Timeout

    lock = FileLock(work.with_suffix(".lock"))
    try:
        work.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            complain("another process downloads the same file; waiting for it")
            lock.acquire()
    except OSError as error:
        raise _not_kept(error) from error
    try:
        shutil.rmtree(work, ignore_errors=True)  # of a process that was killed
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        lock.release()


def _not_kept(error: OSError) -> OutputError:
    return OutputError(
        f"{cache_folder()}: cannot be written ({reason(error)}); make room, or set PIXEL2STYLE_CACHE to another folder"
    )


def _download(url: str, digest: str | None, work: Path) -> Path:
    """Download into ``work`` and, once the digest is verified, move into the cache and record the address."""
    import pooch

    name = re.sub(r"[^\w.-]", "_", urllib.parse.unquote(urllib.parse.urlsplit(url).path.rpartition("/")[2]), flags=re.A)
    name = name.lstrip(".")[-80:] or "model"
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("ERROR")  # it would show the query of the address
    try:
        file = Path(
            _retried(
                lambda: pooch.retrieve(
                    url, f"sha256:{digest}" if digest else None, name, work, downloader=partial(_over_http, work=work)
                ),
                url,
                digest,
            )
        )
        came = digest or digest_of(file)
        kept = _folder(came) / name
        kept.parent.mkdir(parents=True, exist_ok=True)
        file.chmod(0o644)  # pooch's temporary files are their owner's alone
        file.replace(kept)
        _remember(kept, came)
        _note(_record(url), {"address": shown(url), "sha256": came})
    except OSError as error:
        raise _not_kept(error) from error
    finally:
        logger.setLevel(level)
    return kept


def _retried(download: Callable[[], str], url: str, digest: str | None) -> str:
    """What ``download`` returns, tried again where a connection breaks or a server is busy.

    Raises CheckpointError, in a sentence without the query of the address, and OSError where the disk is at fault.
    """
    from requests import HTTPError, RequestException, TooManyRedirects
    from requests.exceptions import SSLError

    why = ""
    for attempt in range(TRIES):
        time.sleep(PAUSE * attempt)
        try:
            return download()
        except HTTPError as error:
            code = error.response.status_code if error.response is not None else 0
            if code not in _BUSY:
                raise CheckpointError(f"{shown(url)}: the server answers {code}; check the address") from None
            why = f"the server answers {code}"
        except TooManyRedirects:
            raise CheckpointError(f"{shown(url)}: redirects without end; check the address") from None
        except SSLError as error:
            raise CheckpointError(f"{shown(url)}: the server cannot prove who it is; use another address") from error
        except RequestException as error:
            why = type(error).__name__
        except ValueError as error:  # pooch, of a digest
            raise CheckpointError(
                f"{shown(url)}: has another SHA-256 than {digest}; it was not kept; ask the source of either"
            ) from error
    raise CheckpointError(f"{shown(url)}: {TRIES} attempts failed ({why}); try again later")


def _over_http(url: str, output_file: str, pooch_: Any, *, work: Path) -> None:
    """A downloader for pooch: every redirect is checked like the address itself, and the size is limited."""
    from pooch import HTTPDownloader
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    responses = contextlib.ExitStack()

    def check(response: Any, *_: Any, **__: Any) -> None:
        responses.callback(response.close)
        check_response(response, url, work)

    console = Console(stderr=True)
    columns = TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    local_only = {"no_proxy": "*"} if _is_this_machine(urllib.parse.urlsplit(url).hostname) else None
    with responses, Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(shown(url).rpartition("/")[2], total=None)
        meter = _Meter(url, Path(output_file), lambda total, got: bar.update(task, total=total or None, completed=got))
        HTTPDownloader(
            progressbar=meter, chunk_size=1 << 20, timeout=TIMEOUT, hooks={"response": check},
            headers={"User-Agent": "pixel2style", "Accept-Encoding": "identity"}, proxies=local_only,
        )(url, output_file, pooch_)  # fmt: skip


class _Meter:
    """Receives progress from pooch: shows it, and stops a file that is too large though its size was not stated."""

    def __init__(self, url: str, file: Path, show: Callable[[int, int], None]):
        self.url, self.file, self.show = url, file, show
        self.total = 0

    def update(self, _: int) -> None:
        """Called after every block; its argument is not the number of bytes that were written."""
        size = self.file.stat().st_size
        if size > MAX_BYTES:
            raise _too_large(self.url)
        self.show(self.total, size)

    def reset(self) -> None:
        """Called at the end."""

    close = reset


def check_response(response: Any, url: str, folder: Path) -> None:
    """Check where a redirect leads, and that the file has room. Raises CheckpointError, or OutputError for no room."""
    try:
        target = urllib.parse.urljoin(response.url, response.headers.get("Location", ""))
        size = int(response.headers.get("Content-Length") or 0)
    except ValueError as error:
        raise CheckpointError(f"{shown(url)}: the server's answer is malformed; check the address") from error
    if response.is_redirect:
        check_address(target)
        if response.url.startswith("https:") and not target.startswith("https:"):
            raise CheckpointError(f"{shown(url)}: redirects to {shown(target)}, which is not encrypted")
    elif response.ok:
        if size > MAX_BYTES:
            raise _too_large(url)
        free = shutil.disk_usage(folder).free
        if free < size + SPARE_BYTES:
            raise OutputError(
                f"{shown(url)}: needs {(size + SPARE_BYTES) / 1e9:.2f} GB where {free / 1e9:.2f} GB are free; make "
                f"room in {cache_folder()} or set PIXEL2STYLE_CACHE to another folder"
            )


def _too_large(url: str) -> CheckpointError:
    return CheckpointError(f"{shown(url)}: is larger than {MAX_BYTES >> 30} GiB, as no model is; check the address")


# the cache: files/DIGEST/NAME, addresses/KEY.json (their digests), verified/KEY.json (which files were found whole)


def _key(text: str) -> str:
    """A file name for ``text`` that says nothing about it."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _folder(digest: str) -> Path:
    return cache_folder() / "files" / digest


def _record(url: str) -> Path:
    return cache_folder() / "addresses" / f"{_key(url)}.json"


def _recorded(url: str) -> str | None:
    """The SHA-256 that the address had when it was last downloaded."""
    digest = _read_json(_record(url)).get("sha256")
    return digest if isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest) else None


def _kept(digest: str | None) -> Path | None:
    """The file with that digest, from whichever address it came; damaged ones are removed."""
    if not digest or not _folder(digest).is_dir():
        return None
    for file in sorted(_folder(digest).iterdir()):
        if is_whole(file, digest):
            return file
        with contextlib.suppress(OSError):
            file.unlink()
    return None


def is_whole(file: Path, digest: str) -> bool:
    """Whether a file has the digest: a SHA-256 (64 hexadecimal digits), or the SHA-1 of a Git blob (40).

    The answer is recorded with the file's size and time of change; while these stay, the file is not read again. That
    finds damage, not manipulation: who can write here can change the record as well.
    """
    try:
        if _read_json(_verified(file)) == _state(file, digest):
            return True
        if digest_of(file, "sha256" if len(digest) == 64 else "sha1") != digest:
            return False
    except OSError:
        return False
    _remember(file, digest)
    return True


def _remember(file: Path, digest: str) -> None:
    """Record that a file has the digest; where that cannot be written, it is computed again next time."""
    with contextlib.suppress(OutputError, OSError):
        _note(_verified(file), _state(file, digest))


def _verified(file: Path) -> Path:
    return cache_folder() / "verified" / f"{_key(str(file.absolute()))}.json"


def _state(file: Path, digest: str) -> dict[str, Any]:
    found = file.stat()
    return {"digest": digest, "size": found.st_size, "mtime_ns": found.st_mtime_ns}


def _note(file: Path, values: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, values)


def _read_json(file: Path) -> dict[str, Any]:
    """A small file of JSON; empty where there is none, or it is damaged."""
    try:
        values = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def digest_of(file: Path, kind: str = "sha256") -> str:
    """The SHA-256 of a file, or the SHA-1 of a Git blob, which begins with its length. Raises OSError."""
    start = b"" if kind == "sha256" else f"blob {file.stat().st_size}\0".encode()
    digest = hashlib.new(kind, start, usedforsecurity=kind != "sha1")
    with file.open("rb") as content:
        return hashlib.file_digest(content, lambda: digest).hexdigest()


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
    unreachable = local_files_only or is_offline()
    try:
        path = Path(
            hf_hub_download(
                repo, file, revision=revision, token=token, cache_dir=cache_dir, force_download=force_download,
                local_files_only=unreachable,
            )
        )  # fmt: skip
    except LocalEntryNotFoundError as error:
        why = "downloads are forbidden" if unreachable else "the hub cannot be reached"
        raise CheckpointError(f"{named}: was not downloaded before, and {why}; try again online") from error
    except EntryNotFoundError as error:
        raise _missing(repo, revision, token, named) from error
    except failures() as error:
        raise CheckpointError(f"{named}: {_why(error)}") from error
    _verify(path, named, digest, lambda: _etag(repo, file, revision, token))
    return path


def failures() -> tuple[type[BaseException], ...]:
    """What the hub's client raises when it fails, errors of its HTTP library included."""
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    return (*HfHubHTTPError.__bases__, EntryNotFoundError, OSError, ValueError, RuntimeError)


def _why(error: BaseException) -> str:
    """The error of the hub's client in one sentence: its own has addresses and hints over many lines."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, GatedRepoError):
        return "access is granted by its owner; ask for it on its page, then: hf auth login"
    if isinstance(error, RepositoryNotFoundError):
        return "there is no such file here and no such repository on the hub, or you may not see it (hf auth login)"
    if isinstance(error, RevisionNotFoundError):
        return "the repository has no such revision"
    return f"cannot be fetched ({type(error).__name__}); try again later"


def _missing(repo: str, revision: str | None, token: str | bool | None, named: str) -> CheckpointError:
    """What to raise for a repository without the file: names the model files that it has."""
    from huggingface_hub import HfApi

    try:
        names = HfApi(token=token).list_repo_files(repo, revision=revision)
    except failures():
        names = []
    at = f"@{revision}" if revision else ""
    if named.endswith(f"/{MODEL}"):
        return no_model(f"hf://{repo}{at}", names, f"hf://{repo}{at}/")
    return CheckpointError(f"{named}: the repository has no such file; its models: {_listed(names)}")


def _listed(names: list[str]) -> str:
    return ascii(", ".join(sorted(name for name in names if name.endswith(SUFFIXES))[:5]) or "none")[1:-1]


def _etag(repo: str, file: str, revision: str | None, token: str | bool | None) -> str | None:
    """The digest that the hub states for a file, requested again."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    try:
        return get_hf_file_metadata(hf_hub_url(repo, file, revision=revision), token=token).etag
    except failures():
        return None


def _verify(path: Path, named: str, digest: str | None, etag: Callable[[], str | None]) -> None:
    """Compare a file of the hub's cache with its known digests. Raises CheckpointError, and removes a damaged file."""
    blob = path.resolve()  # where the system has symbolic links, the cache names it by the digest that the hub states
    stated = next(filter(_DIGITS.fullmatch, filter(None, (blob.name, digest or etag()))), None)
    if not stated:
        raise CheckpointError(f"{named}: the hub states no digest for it; add #sha256= and its SHA-256")
    if not is_whole(blob, stated):
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
            blob.unlink(missing_ok=True)
        raise CheckpointError(
            f"{named}: does not have the digest that it should have; it was removed, download it again"
        )
    if digest and digest != stated and digest_of(blob) != digest:
        raise CheckpointError(f"{named}: has another SHA-256 than {digest}; ask the source of that digest")


def no_model(place: str, names: list[str], prefix: str) -> CheckpointError:
    """What to raise for a folder or a repository that has files, but not the one that is meant without a name."""
    models = sorted(name for name in names if name.endswith(SUFFIXES))
    meant = f"name one of {', '.join(prefix + name for name in models[:5])}" if models else "there is no model in it"
    return CheckpointError(f"{place}: holds no {MODEL}; {ascii(meant)[1:-1]}")
