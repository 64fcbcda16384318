"""Where a page is served, and who can reach it."""

import ipaddress
import socket
from dataclasses import dataclass

from ..errors import ConfigError


@dataclass(frozen=True)
class Address:
    """Where a page is served. ``port`` None: the first free one. Raises ConfigError for what is unsafe."""

    host: str = "127.0.0.1"
    port: int | None = None
    password: str | None = None
    share: bool = False

    def __post_init__(self) -> None:
        if self.port is not None and not 0 < self.port < 65536:
            raise ConfigError(f"--port is a number from 1 to 65535, not {self.port}")
        if self.password is not None and not self.password:
            raise ConfigError("--password is empty: give one, or leave it out")
        if self.password is None and (self.share or not self.local):
            raise ConfigError("others can reach this page: add --password, or leave out --host and --share")

    @property
    def in_links(self) -> str:
        """The host as addresses of pages have it: IPv6 in brackets."""
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def local(self) -> bool:
        """Whether only this machine reaches it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def check(self) -> None:
        """Raise ConfigError where this machine cannot listen there. A server may try a hundred ports for minutes."""
        try:
            family, kind, number, _, place = socket.getaddrinfo(self.host, 0, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind, number) as probe:
                probe.bind(place)
        except (OSError, UnicodeError) as error:
            raise ConfigError(f"--host {self.host} is no address of this machine ({error}): leave it out") from error
