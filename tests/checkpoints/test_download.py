"""Files from addresses are downloaded once, complete, and only if they have the digest that was stated."""

import hashlib
import os
import random
import string
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

import pixel2style as p2s
from pixel2style import cli
from pixel2style.checkpoints import download, resolve
from pixel2style.checkpoints.resolve import local
from pixel2style.errors import CheckpointError, OutputError
from pixel2style.files import cache_folder
from tests.support.stand_in import same, tiny_model
from tests.support.web_server import Site, serving

CONTENT = random.Random(0).randbytes(700_001)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
FETCH = """
import os, sys
from pixel2style.checkpoints.resolve import local
child = os.fork()
print(local(sys.argv[1]), flush=True)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) if child else 0)
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("PIXEL2STYLE_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIXEL2STYLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "PAUSE", 0.0)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(Site(files={"/w/model.pt": CONTENT})) as served:
        yield served


def url(site: Site, digest: str | None = DIGEST, path: str = "/w/model.pt") -> str:
    return f"{site.address}{path}" + (f"#sha256={digest}" if digest else "")


def files_in(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def test_a_file_is_downloaded_once(site: Site) -> None:
    file = local(url(site))
    assert (file.name, file.read_bytes()) == ("model.pt", CONTENT)
    assert local(url(site)) == file
    assert len(site.asked) == 1


def test_the_same_file_of_another_address_is_not_fetched_again(site: Site) -> None:
    file = local(url(site))
    assert local(url(site, path="/elsewhere.pt")) == file


def test_an_address_without_a_digest_is_refused_until_it_was_fetched_with_one(site: Site) -> None:
    with pytest.raises(CheckpointError, match=r"add #sha256=.*pixel2style fetch ADDRESS --trust"):
        local(url(site, None))
    assert site.asked == []
    file = local(url(site))
    assert local(url(site, None)) == file


def test_trust_records_a_digest_and_requires_it_later(site: Site, own_cache: Path) -> None:
    assert local(url(site, None), trust=True).read_bytes() == CONTENT
    local(url(site, None)).unlink()
    site.files["/w/model.pt"] = b"another"
    with pytest.raises(CheckpointError, match=f"another SHA-256 than {DIGEST}"):
        local(url(site, None), trust=True)


def test_a_wrong_digest_leaves_nothing_behind(site: Site, own_cache: Path) -> None:
    with pytest.raises(CheckpointError, match=f"another SHA-256 than {'0' * 64}"):
        local(url(site, "0" * 64))
    assert [file.suffix for file in files_in(own_cache)] == [".lock"]


def test_a_server_that_is_busy_is_asked_again_and_one_that_refuses_is_not(site: Site) -> None:
    site.answers = [503, 429]
    assert local(url(site)).read_bytes() == CONTENT
    with pytest.raises(CheckpointError, match="the server answers 404; check the address"):
        local(url(site, "1" * 64, "/missing.pt"))
    assert len(site.asked) == 4


def test_a_cut_connection_is_tried_again_from_the_start(site: Site) -> None:
    site.cuts = [100_000, 200_000]
    assert local(url(site)).read_bytes() == CONTENT
    assert len(site.asked) == 3


@pytest.mark.parametrize("digest", [DIGEST, None])
def test_a_truncated_file_is_never_kept(digest: str | None, site: Site, own_cache: Path) -> None:
    site.cuts = [50_000] * download.TRIES
    with pytest.raises(CheckpointError, match=f"{download.TRIES} attempts failed"):
        local(url(site, digest), trust=True)
    assert [file.suffix for file in files_in(own_cache)] == [".lock"]


def test_the_rest_of_a_killed_download_is_removed_by_the_next(site: Site, own_cache: Path) -> None:
    site.cuts = [0] * download.TRIES
    with pytest.raises(CheckpointError):
        local(url(site))
    (lock,) = files_in(own_cache)
    lock.with_suffix("").mkdir()
    (lock.with_suffix("") / "tmp123").write_bytes(CONTENT)
    assert local(url(site)).read_bytes() == CONTENT
    assert not lock.with_suffix("").exists()


def test_a_silent_server_times_out(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.05)
    monkeypatch.setattr(download, "TRIES", 2)
    awake = threading.Event()
    site.pause = lambda: awake.wait(5)
    with pytest.raises(CheckpointError, match="2 attempts failed"):
        local(url(site))
    awake.set()


@pytest.mark.slow
def test_two_processes_at_once_fetch_a_file_once(site: Site) -> None:
    site.pause = lambda: time.sleep(0.05)
    command = [sys.executable, "-c", FETCH, url(site)]
    first, second = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=120, check=True).stdout.split()
    assert first == second
    assert Path(first).read_bytes() == CONTENT
    assert len(site.asked) == 1


@pytest.mark.parametrize("name", ["PIXEL2STYLE_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_only_kept_files_are_given(site: Site, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(CheckpointError, match=r"is not in .*cache, and .* forbids to download it"):
        local(url(site))
    monkeypatch.setenv(name, "0")
    file = local(url(site))
    monkeypatch.setenv(name, "true")
    assert local(url(site)) == file
    assert local(url(site, None)) == file
    assert len(site.asked) == 1


def test_a_kept_file_that_was_damaged_is_fetched_again(site: Site) -> None:
    file = local(url(site))
    file.write_bytes(CONTENT[:-1])
    assert local(url(site)).read_bytes() == CONTENT
    assert len(site.asked) == 2


def test_a_kept_file_is_read_again_only_when_it_was_touched(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    file = local(url(site))
    read: list[Path] = []
    digest_of = download.digest_of
    monkeypatch.setattr(download, "digest_of", lambda file, kind: (read.append(file), digest_of(file, kind))[1])
    local(url(site))
    assert read == []
    os.utime(file)
    local(url(site))
    local(url(site))
    assert read == [file]


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("http://example.org/model.pt", "not encrypted"),
        ("http://127.0.0.1.example.org/model.pt", "not encrypted"),
        ("https://user:secret@example.org/model.pt", "holds a password"),
        ("https://secret@example.org/model.pt", "holds a password"),
        ("file:///etc/passwd", "give its path"),
        ("ftp://example.org/model.pt", "only https"),
        ("data://text/plain,x", "only https"),
        ("https:///model.pt", "only https"),
        ("https://[bad/model.pt", "is no address"),
        ("https://example.org:x/model.pt", "is no address"),
        ("https://example.org/model.pt#sha256=12", "64 hexadecimal digits"),
        ("https://example.org/model.pt#md5=12", "64 hexadecimal digits"),
    ],
)
def test_addresses_that_are_never_requested(source: str, complaint: str) -> None:
    with pytest.raises(CheckpointError, match=complaint) as error:
        local(source)
    assert "secret" not in str(error.value)


def test_redirects_to_files_passwords_or_unencrypted_hosts_are_refused(site: Site) -> None:
    site.moved = {
        "/ok": "/w/model.pt",
        "/file": f"file://{Path(__file__)}",
        "/ftp": "ftp://example.org/x",
        "/plain": "http://example.org/x",
        "/password": "https://me:secret@example.org/x",
        "/round": "/round",
    }
    assert local(url(site, path="/ok")).read_bytes() == CONTENT
    for path, complaint in [
        ("/file", "only https"), ("/ftp", "only https"), ("/plain", "not encrypted"),
        ("/password", "holds a password"), ("/round", "redirects without end"),
    ]:  # fmt: skip
        with pytest.raises(CheckpointError, match=complaint) as error:
            local(url(site, "2" * 64, path))
        assert "secret" not in str(error.value)


def test_an_encrypted_address_never_redirects_to_an_unencrypted_one(tmp_path: Path) -> None:
    response = requests.Response()
    response.status_code, response.url, response.headers["Location"] = (
        302,
        "https://example.org/a",
        "http://localhost/b",
    )
    with pytest.raises(CheckpointError, match="not encrypted"):
        download.check_response(response, "https://example.org/a", tmp_path)


@pytest.mark.parametrize("headers", [{"Content-Length": "many"}, {"Location": "http://[bad"}])
def test_a_malformed_answer_is_refused(headers: dict[str, str], tmp_path: Path) -> None:
    response = requests.Response()
    response.status_code, response.url = 302 if "Location" in headers else 200, "https://example.org/a"
    response.headers.update(headers)
    with pytest.raises(CheckpointError, match="malformed"):
        download.check_response(response, response.url, tmp_path)


def test_tokens_in_an_address_are_sent_and_not_shown(site: Site, own_cache: Path) -> None:
    local(f"{site.address}/w/model.pt?token=hush#sha256={DIGEST}")
    assert site.asked == ["/w/model.pt?token=hush"]
    assert not any(b"hush" in file.read_bytes() for file in files_in(own_cache) if file.suffix == ".json")
    with pytest.raises(CheckpointError) as error:
        local(f"{site.address}/none?token=hush#sha256={'3' * 64}")
    assert "hush" not in str(error.value)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/%2e%2e%2f%2e%2e%2fpasswd", "passwd"), ("/..", "model"), ("/", "model"), ("/.bashrc", "bashrc"),
        ("/a%00b%5Cc.pt", "a_b_c.pt"), ("/" + "x" * 300 + ".pt", "x" * 77 + ".pt"), ("/a b é.pt", "a_b__.pt"),
    ],
)  # fmt: skip
def test_no_name_leads_out_of_the_cache(path: str, name: str, own_cache: Path) -> None:
    site = Site(headers={"Content-Disposition": 'attachment; filename="../../evil.sh"'})

    with serving(site):
        # the client may resolve dots and escape letters
        forms = (
            path,
            path.replace("%2e", ".").replace("%2f", "%2F"),
            urllib.parse.quote(path, safe=string.punctuation),
            "/",
        )
        site.files = dict.fromkeys(forms, CONTENT)
        file = local(url(site, path=path))
    assert file.parent == own_cache / "files" / DIGEST
    assert file.name.endswith(name)
    assert not file.name.startswith(".")


def test_a_file_too_large_to_be_a_model_is_refused(site: Site, own_cache: Path) -> None:
    site.headers = {"Content-Length": str(9 << 30)}
    with pytest.raises(CheckpointError, match=r"larger than .* GiB"):
        local(url(site))
    assert [file.suffix for file in files_in(own_cache)] == [".lock"]


def test_a_file_without_a_length_stops_where_no_model_is_as_large(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MAX_BYTES", 100_000)
    with serving(Site(files={"/x": CONTENT}, headers={"Content-Length": ""})) as site:
        with pytest.raises(CheckpointError, match="is larger"):
            local(url(site, path="/x"))
        assert [file.suffix for file in files_in(own_cache)] == [".lock"]


def test_a_full_disk_is_an_error_before_the_download(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "SPARE_BYTES", 1 << 60)
    with pytest.raises(OutputError, match=r"needs .* GB where .* GB are free; make room"):
        local(url(site))


def test_a_cache_that_cannot_be_written_is_an_error(site: Site, own_cache: Path) -> None:
    own_cache.write_text("in the way", encoding="utf-8")
    with pytest.raises(OutputError, match="set PIXEL2STYLE_CACHE"):
        local(url(site))


def test_existing_files_come_first_and_other_paths_are_unchanged(tmp_path: Path) -> None:
    (tmp_path / "user" / "repo").mkdir(parents=True)
    (tmp_path / "user" / "repo" / resolve.MODEL).touch()
    assert local("user/repo") == Path("user/repo", resolve.MODEL)
    for name in ("nowhere.pt", "a/nowhere.pt", "user/nowhere", "./a/b", "../a/b", "/a/b/c", "faces", "a//b", "~/a/b"):
        assert local(name) == Path(name)
    with pytest.raises(CheckpointError, match=r"holds no model.safetensors; name one of user/repo/old.pt"):
        (tmp_path / "user" / "repo" / resolve.MODEL).rename(tmp_path / "user" / "repo" / "old.pt")
        local("user/repo")


def test_the_cache_folder_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIXEL2STYLE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere/pixel2style")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "pixel2style"


def test_the_command_prints_path_and_digest(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fetch", url(site, None)]) == 2
    assert "add #sha256=" in capsys.readouterr().err
    assert cli.main(["fetch", url(site, None), "--trust"]) == 0
    file, digest = capsys.readouterr().out.splitlines()
    assert (Path(file).read_bytes(), digest.strip()) == (CONTENT, f"sha256 {DIGEST}")
    assert cli.main(["fetch", url(site, None)]) == 0
    assert cli.main(["fetch", "nowhere.pt"]) == 2
    assert len(site.asked) == 1


def test_a_command_takes_an_address_where_it_takes_a_file(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "tiny.safetensors"
    p2s.save(tiny_model(), model)
    site.files["/tiny"] = model.read_bytes()
    address = url(site, download.digest_of(model), "/tiny")
    assert same(p2s.load(address), tiny_model())
    assert p2s.load_generator(address).config == tiny_model().config.generator
    assert cli.main(["convert", address, str(tmp_path / "out.safetensors")]) == 0
    assert same(p2s.load(tmp_path / "out.safetensors"), tiny_model())
    assert len(site.asked) == 1


def test_a_download_is_read_as_any_other_file(site: Site) -> None:
    site.files["/bad.pt"] = b"\x80\x04cos\nsystem\n(S'exit 1'\ntR."
    with pytest.raises(CheckpointError):
        p2s.load(url(site, hashlib.sha256(site.files["/bad.pt"]).hexdigest(), "/bad.pt"))
