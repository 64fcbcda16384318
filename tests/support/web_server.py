"""A web server on this machine; a test decides what it serves, truncates, redirects or refuses."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Site:
    """Files by path, and how they are served; ``asked`` lists the path of every request."""

    files: dict[str, bytes] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    """Bytes after which each of the next answers is cut; none: all are complete."""
    answers: list[int] = field(default_factory=list)
    """Error codes that the next requests get."""
    headers: Mapping[str, str] = field(default_factory=dict)
    pause: Callable[[], object] = lambda: None
    """Called before every block of 64 KiB."""
    asked: list[str] = field(default_factory=list)
    address: str = ""


class QuietHandler(BaseHTTPRequestHandler):
    """Answers without a log on the terminal."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def answering(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Answer by ``handler``, in threads of their own; yields the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def serving(site: Site) -> Iterator[Site]:
    """Serve until the test ends."""

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            answer(self, site)

    with answering(Handler) as site.address:
        yield site


def answer(handler: BaseHTTPRequestHandler, site: Site) -> None:
    path = handler.path.partition("?")[0]
    site.asked.append(handler.path)
    if site.answers or path in site.moved or path not in site.files:
        handler.send_response(site.answers.pop(0) if site.answers else 302 if path in site.moved else 404)
        handler.send_header("Location", site.moved.get(path, ""))
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return
    content = site.files[path]
    handler.send_response(200)
    for name, value in {"Content-Length": str(len(content)), **site.headers}.items():
        if value:
            handler.send_header(name, value)
    handler.end_headers()
    cut = site.cuts.pop(0) if site.cuts else len(content)
    body = content[:cut]
    with contextlib.suppress(OSError):
        for first in range(0, len(body), 1 << 16):
            site.pause()
            handler.wfile.write(body[first : first + (1 << 16)])
