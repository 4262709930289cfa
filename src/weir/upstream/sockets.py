"""TCP keep-alive: how a dead peer of a silent connection is found. Long-lived streams have no other timer."""

import socket

IDLE_SECONDS = 60
"""Silence before the first probe: below the 5 min after which common firewalls forget a connection."""
INTERVAL_SECONDS = 15
"""Between two probes."""
PROBES = 4
"""Unanswered ones after which the peer counts as dead: two minutes after its last byte."""


def keep_alive(sock: socket.socket) -> None:
    """Have the system probe a silent peer. On a listener it holds for every accepted connection (Linux, BSD)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # macOS calls the first one TCP_KEEPALIVE
    named = (
        (("TCP_KEEPIDLE", "TCP_KEEPALIVE"), IDLE_SECONDS),
        (("TCP_KEEPINTVL",), INTERVAL_SECONDS),
        (("TCP_KEEPCNT",), PROBES),
    )
    for names, value in named:
        option = next((getattr(socket, name) for name in names if hasattr(socket, name)), None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
