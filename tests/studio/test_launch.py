"""Who reaches the studio, and what it refuses."""

import importlib.util

import pytest

from pixel2style.cli import main
from pixel2style.errors import ConfigError, ImageError
from pixel2style.inference import drawings

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gradio") is None, reason="the extra studio is not installed"
)  # each test imports it: it takes seconds, which tests of other files need not wait for


def test_only_this_machine_is_let_in_without_a_password() -> None:
    from pixel2style.studio.address import Address

    assert Address().local and Address("localhost").local and Address("::1").local
    for host in ("0.0.0.0", "192.168.0.2", "example.org"):
        with pytest.raises(ConfigError, match="--password"):
            Address(host)
        assert not Address(host, password="word").local
    with pytest.raises(ConfigError, match="--password"):
        Address(share=True)
    for port in (0, 70_000):
        with pytest.raises(ConfigError, match="--port"):
            Address(port=port)


def test_addresses_of_ipv6_have_brackets_in_links_and_are_let_in() -> None:
    from pixel2style.studio.address import Address
    from pixel2style.studio.launch import _options

    assert [Address(host).in_links for host in ("::1", "127.0.0.1", "localhost")] == ["[::1]", "127.0.0.1", "localhost"]
    options = _options(Address("0:0::1"))
    assert options["server_name"] == "[0:0::1]"
    assert "[0:0::1]" in options["app_kwargs"]["middleware"][1].kwargs["allowed_hosts"]


@pytest.mark.parametrize(
    ("words", "missing"),
    [
        (["--share"], "--i-understand"),
        (["--share", "--password", "word"], "--i-understand"),
        (["--share", "--i-understand"], "--password"),
        (["--host", "0.0.0.0"], "--password"),
        (["--port", "0"], "--port"),
        (["--host", "192.0.2.1", "--password", "word"], "--host 192.0.2.1 is no address of this machine"),
    ],
)
def test_the_command_refuses_what_lets_others_in(
    words: list[str], missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["studio", "--no-browser", *words]) == 2
    assert missing in capsys.readouterr().err


def test_drawings_have_a_largest_size_and_damaged_ones_are_refused() -> None:
    with pytest.raises(ImageError):
        drawings.from_text("data:image/png;base64," + "A" * (drawings.MOST_TEXT + 1))
    for damaged in (None, "", "data:image/png;base64,@@", "data:image/png;base64,AAAA"):
        with pytest.raises(ImageError):
            drawings.from_text(damaged)


def test_sentences_are_for_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", "/tmp/studio")
    from pixel2style.studio import parts

    said = parts.plain("/tmp/studio/abc/me.png is empty: give --no-align")
    assert said == "me.png is empty: give no align."
