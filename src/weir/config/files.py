"""Files that the operator names, read at once or refused: a pipe would block for ever, a device has no end."""

import os
import stat

_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


class FileError(Exception):
    """A file cannot be used. The text says why and the mend; it holds neither the path nor anything of the file."""

    def __init__(self, text: str, *, is_missing: bool = False) -> None:
        super().__init__(text)
        self.is_missing = is_missing


def read_text(path: str, limit_bytes: int) -> str:
    """The text of a file, without a byte order mark. Raises FileError."""
    try:
        content = _content(path, limit_bytes)
    except FileNotFoundError as error:
        raise FileError(f"cannot be read: {error.strerror}", is_missing=True) from None
    except (OSError, ValueError) as error:
        # ValueError: a NUL character in the path
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise FileError(f"cannot be read: {reason}") from None
    if len(content) > limit_bytes:
        raise FileError(f"is larger than {_shown(limit_bytes)}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise FileError("is not UTF-8 text; save it as UTF-8") from None


def is_readable_by_everyone(path: str) -> bool:
    """Every user of this machine may read the file. False where that cannot be said."""
    try:
        return bool(os.stat(path).st_mode & stat.S_IROTH)
    except OSError:
        return False


def _content(path: str, limit_bytes: int) -> bytes:
    """Up to one byte over the limit."""
    # looked at before it is opened, as opening alone moves some devices; and again, as it may have been replaced
    _check_kind(os.stat(path))
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        _check_kind(os.fstat(descriptor))
        return file.read(limit_bytes + 1)


def _check_kind(status: os.stat_result) -> None:
    for is_kind, name in _KINDS:
        if is_kind(status.st_mode):
            raise FileError(f"is {name}, not a file; name a file that holds the text")


def _shown(limit_bytes: int) -> str:
    return f"{limit_bytes // 1024**2} MiB" if limit_bytes >= 1024**2 else f"{limit_bytes // 1024} KiB"
