"""Headers that are meant for one hop only and are never passed on (RFC 9110, section 7.6.1)."""

_PERSISTENCE = frozenset((b"close", b"keep-alive", b""))
_NONE: frozenset[bytes] = frozenset()


def named_by(value: bytes) -> frozenset[bytes]:
    """The headers that a value of `Connection` names besides, in lower case."""
    if value in _PERSISTENCE:
        return _NONE
    return frozenset([token.strip().lower() for token in value.split(b",")]) - _PERSISTENCE
