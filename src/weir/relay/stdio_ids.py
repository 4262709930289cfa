"""When two ids (or progress tokens) on a pipe are the same one."""

from weir.protocol.decoding import any_of


def key_of(raw: bytes) -> bytes:
    """One key for every spelling of an id, and for `7` and `"7"`, which some servers do not keep apart.

    `raw` is JSON text. Whoever has two candidates under one key prefers the one with the same text.
    """
    if raw.isdigit():
        return raw
    if raw[:1] == b'"' and b"\\" not in raw:
        return raw[1:-1]
    value = any_of(raw)
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, float) and value.is_integer():
        return b"%d" % int(value)
    return raw
