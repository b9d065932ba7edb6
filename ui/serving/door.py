"""Who may come in: the hosts that this server answers to, and the token that it asks for."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import urlsplit

_ANY = ("", "*", "0.0.0.0", "::")


def is_loopback(host: str) -> bool:
    """Tell whether a host's name or address can only mean this machine itself."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def read_host(header: str) -> tuple[str, int | None] | None:
    """Read a Host header, or an Origin's host and port; None if it is malformed."""
    try:
        found = urlsplit(f"//{header}")
        host, port = found.hostname, found.port
    except ValueError:
        return None
    if not host or found.netloc != header or "@" in header:
        return None
    return host.lower().rstrip("."), port


@dataclass(frozen=True)
class Door:
    """The rules of this server.

    Args:
        address: that it listens on, as it was asked for; empty for every one.
        token: what a stranger has to show.
        allowed: further hosts that it answers to.
        always: whether everybody has to show the token, not only who comes from outside.
    """

    address: str
    token: str = field(repr=False)
    allowed: frozenset[str] = frozenset()
    always: bool = False

    @classmethod
    def of(cls, address: str | None, environment: Mapping[str, str] = os.environ) -> Door:
        """Read the rules from the address asked for and from EXPLORER_TOKEN and EXPLORER_ALLOWED_HOSTS.

        Without a token in the environment a new one is made.
        """
        token = environment.get("EXPLORER_TOKEN", "").strip()
        names = environment.get("EXPLORER_ALLOWED_HOSTS", "").replace(",", " ").split()
        asked = (address or "").strip().strip("[]").lower()
        return cls(
            address=asked,
            token=token or secrets.token_urlsafe(32),
            allowed=frozenset(name.lower().strip("[]").rstrip(".") for name in names),
            always=bool(token) or asked in _ANY or not is_loopback(asked),
        )

    @property
    def local(self) -> bool:
        """Whether the server listens to its own machine alone."""
        return self.address not in _ANY and is_loopback(self.address)

    def answers_to(self, host: str) -> bool:
        """Tell whether this server goes by a host's name.

        A page elsewhere can have its own name resolve to this machine (DNS rebinding), but not a number or a name
        that is known here. A server that is open to the network goes by every address that it may have.
        """
        if is_loopback(host) or host in self.allowed or host == self.address:
            return host not in _ANY
        return not self.local and (_is_address(host) or host == socket.gethostname().lower())

    def allows_origin(self, origin: str, host: str) -> bool:
        """Tell whether a page of an origin may talk to this server under a host's name: its own, or an allowed one."""
        scheme, _, rest = origin.partition("://")
        found = read_host(rest)
        if scheme not in ("http", "https") or found is None:
            return False
        return rest.lower() == host.lower() or found[0] in self.allowed

    def asks_token(self, host: str, reached: str) -> bool:
        """Tell whether a request for a host, which reached an address of this machine, has to show the token."""
        return self.always or not is_loopback(host) or not is_loopback(reached)

    def knows(self, shown: str | None) -> bool:
        """Tell whether what was shown is the token."""
        return shown is not None and hmac.compare_digest(shown.encode(), self.token.encode())

    @property
    def pass_word(self) -> str:
        """What the cookie holds in the token's place: who reads it cannot write the link."""
        return hashlib.sha256(b"cookie:" + self.token.encode()).hexdigest()

    def knows_cookie(self, shown: str | None) -> bool:
        """Tell whether a cookie is the one that was given for the token."""
        return shown is not None and hmac.compare_digest(shown.encode(), self.pass_word.encode())

    def greet(self, port: int, encrypted: bool = False) -> str:
        """Say where the dashboard is."""
        host = socket.gethostname() if self.address in _ANY else self.address
        host = f"[{host}]" if ":" in host else host
        url = f"{'https' if encrypted else 'http'}://{host}:{port}/"
        if not self.always:
            return f"\n  The dashboard is at {url} (this machine only)\n"
        lines = [f"The dashboard is at {url}?token={self.token}"]
        if not self.local:
            lines.append("It is open to the network: whoever has this address can use it.")
        return "\n" + "".join(f"  {line}\n" for line in lines)
