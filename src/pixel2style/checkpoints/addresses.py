"""Which addresses are asked, and by whom: https, or http on this machine itself, with no password and no detours.

Nothing here opens files, FTP, cookies or logins. Messages show an address without its query, which may hold a token.
"""

import ipaddress
import string
import urllib.error
import urllib.parse
import urllib.request
from typing import IO, Any

from ..errors import CheckpointError


def shown(url: str) -> str:
    """An address fit for messages: without query, fragment or password."""
    try:
        parts = urllib.parse.urlsplit(url)
        place = parts.netloc.rpartition("@")[2]
        return ascii(f"{parts.scheme}://{place}{parts.path}"[:200])[1:-1]
    except ValueError:
        return ascii(url[:40])[1:-1]


def check(url: str) -> None:
    """Raise CheckpointError for an address that we do not download from."""
    try:
        parts = urllib.parse.urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise CheckpointError(f"{shown(url)}: is no address; give https://HOST/FILE") from None
    if parts.username is not None or parts.password is not None:
        raise CheckpointError(f"{shown(url)}: holds a password; give an address that needs none")
    if not host or parts.scheme not in ("http", "https"):
        raise CheckpointError(f"{shown(url)}: only https addresses are downloaded; for a file here, give its path")
    if parts.scheme == "http" and not is_here(host):
        raise CheckpointError(f"{shown(url)}: is not encrypted, so anyone between could change it; use https")


def is_here(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def opener(url: str) -> urllib.request.OpenerDirector:
    """HTTP and nothing else: no files, no FTP, no cookies, no passwords; no proxy to ourselves."""
    made = urllib.request.OpenerDirector()
    proxies: dict[str, str] | None = {} if is_here(urllib.parse.urlsplit(url).hostname or "") else None
    for handler in (
        urllib.request.ProxyHandler(proxies),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        made.add_handler(handler)
    return made


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow a few redirects, none of them to something less safe."""

    max_redirections = 5

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """The request to make instead. Raises CheckpointError for one that must not be made."""
        fp.close()
        check(newurl)
        if req.type == "https" and not newurl.lower().startswith("https:"):
            raise CheckpointError(f"{shown(req.full_url)}: leads out of encryption to {shown(newurl)}; use another")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def quoted(url: str) -> str:
    """An address as it goes over the wire, without its fragment."""
    return urllib.parse.quote(urllib.parse.urldefrag(url).url, safe=string.punctuation)
