"""The first word with a scheduler: who listens at an address, known within seconds.

Dask itself waits without end for a handshake that never comes.  A Dask server speaks first: eight
bytes of length, then who it is.
"""

from __future__ import annotations

import socket
import ssl
import struct
from urllib.parse import urlsplit

SPEAK_S = 4.0  # for a connection, and for its first bytes
_MAX_GREETING = 1 << 20
_HTTP = b"GET / HTTP/1.0\r\n\r\n"


def knock(address: str, context: ssl.SSLContext | None) -> None:
    """Return if a Dask server answers; OSError or ValueError that says what is there instead."""
    parts = urlsplit(address if "://" in address else f"tcp://{address}")
    if parts.scheme not in ("tcp", "tls") or parts.hostname is None or parts.port is None:
        raise ValueError("expected an address like tcp://head:8786 or tls://head:8786")
    if parts.scheme == "tls" and context is None:
        raise ValueError(
            "TLS needs certificates: set DASK_DISTRIBUTED__COMM__TLS__CA_FILE, "
            "..__TLS__CLIENT__CERT and ..__TLS__CLIENT__KEY, or the same in Dask's configuration"
        )
    where = parts.hostname, parts.port
    greeting = _greeting(where, context if parts.scheme == "tls" else None)
    if len(greeting) == 8 and struct.unpack("<Q", greeting)[0] <= _MAX_GREETING:
        return
    if greeting:
        raise ValueError(f"something else than a Dask scheduler listens there ({greeting!r})")
    if parts.scheme == "tcp" and _speaks_http(where):
        raise ValueError(
            "HTTP is spoken there: that is a dashboard; the scheduler's own port is often 8786"
        )
    raise ValueError(f"it accepts connections, but says nothing for {SPEAK_S:.0f} s")


def _greeting(where: tuple[str, int], context: ssl.SSLContext | None) -> bytes:
    """Return the first bytes that the server says by itself, b"" if none."""
    with socket.create_connection(where, SPEAK_S) as plain:
        plain.settimeout(SPEAK_S)
        try:
            if context is None:
                return plain.recv(8, socket.MSG_WAITALL)
            with context.wrap_socket(plain, server_hostname=where[0]) as secure:
                return secure.recv(8)
        except TimeoutError:
            return b""


def _speaks_http(where: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(where, SPEAK_S) as plain:
            plain.settimeout(SPEAK_S / 2)
            plain.sendall(_HTTP)
            return plain.recv(5) == b"HTTP/"
    except OSError:
        return False
