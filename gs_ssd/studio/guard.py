"""Which requests to a server on this machine may be answered: its own pages', no other site's.

A page anywhere on the web can make the browser of its visitor send requests to that visitor's own
machine. Two headers, which a page cannot forge, tell such requests from ours: `Host`, the name in
the address bar (DNS rebinding: a name of the attacker's that points to this machine), and `Origin`,
the page that asks (browsers send it with every WebSocket and with all requests that may change
something). Pure functions; they know no server.
"""

import dataclasses
import ipaddress
import socket
from collections.abc import Sequence

LOOPBACK_NAMES = ("localhost",)


@dataclasses.dataclass(frozen=True)
class Guard:
    """Answers `refusal` for a server that listens on `listens_on`.

    On loopback only the loopback names are ours. On any other address also IP addresses, which
    cannot be rebound, this machine's own name, the name listened on, and `names`. Ports are not
    compared with the server's: a tunnel (`ssh -L 9000:localhost:8080`) changes them. Origin and
    Host must agree on theirs, so another server on this machine cannot reach in either.
    """

    listens_on: str
    names: tuple[str, ...] = ()

    def refusal(self, hosts: Sequence[str], origins: Sequence[str] = ()) -> str | None:
        """Why a request with these `Host` and `Origin` headers is refused; None: it is ours."""
        if len(hosts) != 1 or (asked := _authority(hosts[0])) is None:
            return "the request must have one Host header"
        if not self._is_ours(asked[0]):
            return (
                f"this server does not answer to the name {asked[0]!r}; open it by {self._known()}"
            )
        for origin in origins:  # none: not from a page's script
            scheme, separator, rest = origin.partition("://")
            page = _authority(rest, 443 if scheme.lower() == "https" else 80)
            here = _authority(hosts[0], 443 if scheme.lower() == "https" else 80)
            if (
                not separator
                or scheme.lower() not in ("http", "https")
                or page is None
                or page != here
            ):
                return "the request comes from a page of another site"
        return None

    def _is_ours(self, name: str) -> bool:
        if name in self.names or name in LOOPBACK_NAMES or is_loopback(name):
            return True
        if is_loopback(self.listens_on):
            return False
        return _is_address(name) or name in (self.listens_on.lower(), socket.gethostname().lower())

    def _known(self) -> str:
        if is_loopback(self.listens_on):
            return "localhost"
        return f"the machine's IP address or the name {socket.gethostname()}"


def is_loopback(host: str) -> bool:
    """Whether this name or address can only mean the machine itself."""
    try:
        return host.lower() in LOOPBACK_NAMES or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _authority(text: str, default_port: int = 80) -> tuple[str, int] | None:
    """Name (lower case, an IPv6 address without its brackets) and port of `name:port`; None: it is
    none.
    """
    if text.startswith("["):
        name, closed, port = text[1:].partition("]")
        if not closed or (port and not port.startswith(":")):
            return None
        port = port[1:]
    else:
        name, _, port = text.partition(":")
    if (
        not name
        or not name.isascii()
        or any(c in " \t/\\@?#%," or not c.isprintable() for c in name)
    ):
        return None
    if port and not (port.isascii() and port.isdigit() and len(port) <= 5):
        return None
    return name.lower(), int(port) if port else default_port
