"""Host names as DNS and IDNA take them."""

import ipaddress
import re

MAX_NAME_LENGTH = 253
"""RFC 1035, section 2.3.4, as written: 255 octets on the wire."""

MAX_LABEL_LENGTH = 63
"""RFC 1035, section 2.3.4."""

_LABEL = re.compile(r"[A-Za-z0-9_-]+")


def objection(host: str) -> str:
    """The reason why a name without brackets and port cannot be looked up; empty when it can.

    A final dot, which makes a name absolute, is allowed; so is the underscore, which resolvers take.
    """
    name = host.removesuffix(".")
    if not name:
        return "it is empty"
    if len(name) > MAX_NAME_LENGTH:
        return f"it is longer than {MAX_NAME_LENGTH} characters"
    for label in name.split("."):
        if not label:
            return "it has two dots in a row, or begins with one"
        if len(label) > MAX_LABEL_LENGTH:
            return f"one of its labels is longer than {MAX_LABEL_LENGTH} characters"
        if not _LABEL.fullmatch(label):
            return "only letters, digits, '-', '_' and dots make a host name (others as xn--...)"
        if label[:4].lower() == "xn--" and not _is_idna(label):
            return "one of its labels begins with xn-- and is no international name"
    return ""


def plain(host: str) -> str:
    """The name as it is compared: in lower case, without the final dot."""
    return host.lower().removesuffix(".")


def is_loopback(host: str) -> bool:
    """Whether a host (without brackets) names this machine."""
    host = plain(host)
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_idna(label: str) -> bool:
    try:
        label.encode().decode("idna")
    except UnicodeError:
        return False
    return True
