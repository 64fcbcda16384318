"""Start the page: what it is made of, who reaches it, and what is left behind when it ends (nothing).

Everything comes from this machine: a policy sent with the page forbids browsers to load anything from elsewhere.
"""

import contextlib
import hmac
import importlib.util
import os
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..inference.work import Sessions
from ..runtime import Device, Precision, choose_device, return_freed_memory
from .address import Address

if TYPE_CHECKING:
    import gradio as gr

LARGEST = 20 * 2**20
"""Bytes of an upload."""
QUEUE = 32
"""Requests that wait; one more is refused."""
SESSIONS = 16
"""Visitors whose work is kept; that of the one who has been away longest is dropped for another."""
TIDIED = 10.0
"""Seconds between returns of freed memory."""
POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; "
    "frame-ancestors 'none'; base-uri 'self'; form-action 'self'"
)
FONTS = ("system-ui", "-apple-system", "Segoe UI", "sans-serif"), ("ui-monospace", "Consolas", "monospace")
HERE = Path(__file__).parent


@contextlib.contextmanager
def serving(
    models: Sequence[str] = (),
    address: Address | None = None,
    *,
    runs: Path | None = None,
    device: Device = "auto",
    precision: Precision = "auto",
    browser: bool = False,
) -> Iterator[str]:
    """Serve the page while the block runs; yields its address. Raises ConfigError where it cannot be served.

    ``models`` are offered beside the bundled ones, ``runs`` is a folder of training runs to watch. Uploads and results
    lie in a folder of their own, which is deleted at the end.
    """
    address = address or Address()
    choose_device(device)
    address.check()
    if runs is not None and not runs.is_dir():
        raise ConfigError(f"--runs {runs} is no folder: name one that holds runs of training, or make it")
    if importlib.util.find_spec("gradio") is None:
        raise ConfigError("the studio needs gradio: pip install 'pixel2style[studio]'")
    with tempfile.TemporaryDirectory(prefix="pixel2style-studio-") as folder:
        os.environ |= {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
        page = build(Sessions(models, device, precision), runs, closed=address.share or not address.local)
        try:
            _, local, shared = page.launch(**_options(address), inbrowser=browser)
        except OSError as error:
            raise ConfigError(f"the studio cannot use {address.host}, port {address.port}: {error}") from None
        ended = threading.Event()
        threading.Thread(target=_tidy, args=(ended,), daemon=True).start()
        try:
            yield shared or local
        finally:
            ended.set()
            page.close(verbose=False)


def _tidy(ended: threading.Event) -> None:
    """Return freed memory until the page has ended; beside the requests, which need not wait for it."""
    while not ended.wait(TIDIED):
        return_freed_memory()


def build(models: Sessions, runs: Path | None = None, closed: bool = False) -> "gr.Blocks":
    """The page, not launched yet. ``closed``: visitors choose among ``models`` only, not among all files here."""
    import gradio as gr

    from . import draw_tab, edit_tab, repair_tab, train_tab
    from .parts import KEPT, QUIET

    def asked(request: gr.Request) -> Any:
        opened = request.query_params.get("tab")
        return gr.Tabs(selected=opened) if opened else gr.skip()  # a visitor may already have chosen a tab

    with gr.Blocks(title="pixel2style studio", analytics_enabled=False, delete_cache=(KEPT // 4, KEPT)) as page:
        with gr.Row(elem_id="top"):
            gr.Markdown("# pixel2style studio")
            theme = gr.Button("Dark or light", size="sm", min_width=90, scale=0)
        theme.click(None, js="() => { document.body.classList.toggle('dark'); }")
        with gr.Tabs() as tabs:
            links = [edit_tab.tab(models, closed)]
            draw_tab.tab(models, closed)
            repair_tab.tab(models, closed)
            train_tab.tab(runs)
        for outputs, linked in links:
            page.load(linked, None, outputs, **QUIET)
        page.load(asked, None, tabs, **QUIET)
    page.queue(max_size=QUEUE, default_concurrency_limit=1)
    return page


def _options(address: Address) -> dict[str, Any]:
    """How gradio launches: nothing is sent elsewhere, nothing is recorded, only those with the password enter."""
    import gradio as gr
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    guards = [Middleware(_Headers)]
    if address.local and not address.share:  # a page of another name that leads here must not read this one
        guards.append(
            Middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1", "[::1]", address.in_links])
        )
    password = address.password
    return {
        "server_name": address.in_links,
        "server_port": address.port,
        "share": address.share,
        "auth": password and (lambda name, given: hmac.compare_digest(given.encode(), password.encode())),
        "auth_message": "Any name, and the password that the studio was started with.",
        "max_file_size": LARGEST,
        "state_session_capacity": SESSIONS,
        "app_kwargs": {"middleware": guards, "docs_url": None, "redoc_url": None, "openapi_url": None},
        "theme": gr.themes.Default(font=FONTS[0], font_mono=FONTS[1]),
        "css_paths": HERE / "page.css",
        "head_paths": HERE / "page.html",
        "footer_links": [],
        "run_history": False,
        "enable_monitoring": False,
        "ssr_mode": False,
        "mcp_server": False,
        "pwa": False,
        "quiet": True,
        "prevent_thread_lock": True,
    }


class _Headers:
    """Adds headers to every answer: nothing is loaded from elsewhere, and addresses of pictures are not passed on."""

    def __init__(self, app: Any):
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def sent(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    (b"content-security-policy", POLICY.encode()),
                    (b"referrer-policy", b"no-referrer"),
                ]
            await send(message)

        await self.app(scope, receive, sent)


def wait() -> None:
    """Until Ctrl-C, or until the process is told to end."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()
