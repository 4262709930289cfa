"""The kinds of value a configuration holds: each parses itself and describes itself to editors."""

import ipaddress
import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, WithJsonSchema

from weir.config import quantities
from weir.config.quantities import ADDRESS_PATTERN, DURATION_PATTERN, SIZE_PATTERN, Address

NAME_PATTERN = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"
MAX_NAME_LENGTH = 63
"""As long as a DNS label: the name is part of paths, labels and file names."""

_NAME = re.compile(NAME_PATTERN)
_HEADER_NAME = re.compile(r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
_HEADER_VALUE = re.compile(r"^[\x20-\x7e\x80-\U0010ffff\t]*$")
_ENVIRONMENT_NAME = re.compile(r"^[^=\0]+$")

FRAMING_HEADERS = frozenset(
    ["host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade"]
)
"""Headers that belong to a connection; weir writes them itself."""


class Section(BaseModel):
    """A mapping of the configuration: nothing unknown in it, nothing changed after loading."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, regex_engine="python-re")


def _whole_number(written: object) -> object:
    if isinstance(written, bool) or not isinstance(written, int | str):
        raise ValueError("{written} is not a whole number")
    return written


def _number(written: object) -> object:
    if isinstance(written, bool) or not isinstance(written, int | float | str):
        raise ValueError("{written} is not a number")
    return written


def _switch(written: object) -> object:
    if isinstance(written, bool) or written in ("true", "false"):
        return written
    raise ValueError("{written} is neither true nor false")


def _text(written: object) -> object:
    if isinstance(written, bool | float):
        raise ValueError("{written} must be in quotes to be text")
    return str(written) if isinstance(written, int) else written


def _duration_above_zero(written: object) -> float:
    seconds = quantities.duration_seconds(written)
    if seconds <= 0:
        raise ValueError("{written} must be more than nothing")
    return seconds


def _size_above_zero(written: object) -> int:
    size = quantities.size_bytes(written)
    if size <= 0:
        raise ValueError("{written} must be more than nothing")
    return size


def _name(name: str) -> str:
    if not _NAME.match(name) or len(name) > MAX_NAME_LENGTH:
        raise ValueError("{written} is not a name; use a-z, 0-9 and '-', at most 63 of them, not '-' at an end")
    return name


def http_url(url: str) -> str:
    """An absolute http or https URL that holds no credentials. Raises ValueError with the mend."""
    try:
        parts = urlsplit(url)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        raise ValueError("{written} is not a URL; write for example 'https://host.example/mcp'") from None
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname or not port_is_valid:
        raise ValueError("{written} is not an http or https URL; write for example 'https://host.example/mcp'")
    if parts.username is not None or parts.password is not None:
        raise ValueError("a URL must not hold credentials; put them in headers: {Authorization: ...}")
    if parts.fragment:
        raise ValueError("a URL must not have a fragment ('#...')")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("a URL must be ASCII without spaces; encode other characters (%20, xn--...)")
    return url


def _origin(origin: str) -> str:
    parts = urlsplit(http_url(origin))
    if parts.path or parts.query:
        raise ValueError("{written} is not an origin; write scheme, host and port only: 'https://app.example'")
    return origin.lower()


def _headers(headers: dict[str, str]) -> dict[str, str]:
    seen: set[str] = set()
    for name, value in headers.items():
        lower = name.lower()
        if not _HEADER_NAME.match(name):
            raise ValueError(f"'{name}' is not a header name")
        if lower in FRAMING_HEADERS:
            raise ValueError(f"'{name}' belongs to the connection and cannot be set; leave it out")
        if lower in seen:
            raise ValueError(f"'{name}' is there twice (header names ignore case)")
        if not _HEADER_VALUE.match(value):
            raise ValueError(f"the value of '{name}' has a line break or a control character")
        seen.add(lower)
    return headers


def _header_name(name: str) -> str:
    if not _HEADER_NAME.match(name):
        raise ValueError("{written} is not a header name")
    return name.lower()


def _environment(variables: dict[str, str]) -> dict[str, str]:
    for name, value in variables.items():
        if not _ENVIRONMENT_NAME.match(name):
            raise ValueError(f"'{name}' is not the name of a variable")
        if "\0" in value:
            raise ValueError(f"the value of '{name}' has a NUL character")
    return variables


def _off_or_address(written: object) -> Address | None:
    return None if written in ("off", None) else quantities.address(written)


def _command(command: object) -> object:
    if isinstance(command, str):
        raise ValueError("a command is a list of program and arguments: [npx, -y, some-server, /data]")
    return command


def _schema(pattern: str, *examples: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": list(examples)})


def _empty_is_default(written: object) -> object:
    return {} if written is None else written


Text = Annotated[str, BeforeValidator(_text)]
Count = Annotated[int, BeforeValidator(_whole_number), Field(ge=1)]
CountOrZero = Annotated[int, BeforeValidator(_whole_number), Field(ge=0)]
NumberOrZero = Annotated[float, BeforeValidator(_number), Field(ge=0)]
Share = Annotated[float, BeforeValidator(_number), Field(gt=0, le=1)]
"""More than 0, up to 1."""
ShareOrZero = Annotated[float, BeforeValidator(_number), Field(ge=0, le=1)]
Percent = Annotated[float, BeforeValidator(_number), Field(gt=0, le=100)]
Switch = Annotated[bool, BeforeValidator(_switch)]
Seconds = Annotated[float, PlainValidator(_duration_above_zero), _schema(DURATION_PATTERN, "50ms", "5s", "1m30s", "1h")]
SecondsOrZero = Annotated[
    float, PlainValidator(quantities.duration_seconds), _schema(DURATION_PATTERN, "0s", "50ms", "5s", "1m30s")
]
Bytes = Annotated[int, PlainValidator(_size_above_zero), _schema(SIZE_PATTERN, "512KiB", "4MB", "16MiB")]
Listening = Annotated[
    Address, PlainValidator(quantities.address), _schema(ADDRESS_PATTERN, "127.0.0.1:8931", "[::1]:8931")
]
ListeningOrOff = Annotated[
    Address | None,
    PlainValidator(_off_or_address),
    _schema(rf"^off$|{ADDRESS_PATTERN}", "127.0.0.1:8932", "off"),
]
Network = Annotated[
    ipaddress.IPv4Network | ipaddress.IPv6Network,
    PlainValidator(quantities.network),
    _schema(r"^[0-9A-Fa-f:.]+(/\d{1,3})?$", "10.0.0.0/8", "fd00::/8"),
]
Name = Annotated[str, AfterValidator(_name), Field(json_schema_extra={"pattern": NAME_PATTERN, "examples": ["search"]})]
Url = Annotated[str, AfterValidator(http_url), Field(json_schema_extra={"examples": ["https://host.example/mcp"]})]
Origin = Annotated[str, AfterValidator(_origin), Field(json_schema_extra={"examples": ["https://app.example"]})]
HeaderName = Annotated[str, AfterValidator(_header_name), Field(json_schema_extra={"examples": ["x-api-key"]})]
Headers = Annotated[dict[str, Text], AfterValidator(_headers)]
Environment = Annotated[dict[str, Text], AfterValidator(_environment)]
Command = Annotated[tuple[Text, ...], BeforeValidator(_command)]
Mode = Literal["enforce", "shadow", "off"]
"""enforce: does it; shadow: only counts what it would have done; off: as if it were not there."""

EmptyIsDefault = BeforeValidator(_empty_is_default)
"""A section that is named but empty is there, with its defaults."""


def default_duration(text: str, **about: Any) -> Any:
    """A field whose default is a duration; editors see the text, code sees seconds."""
    return Field(default=quantities.duration_seconds(text), json_schema_extra={"default": text}, **about)


def default_size(text: str, **about: Any) -> Any:
    """A field whose default is a size; editors see the text, code sees bytes."""
    return Field(default=quantities.size_bytes(text), json_schema_extra={"default": text}, **about)


def default_address(text: str, **about: Any) -> Any:
    """A field whose default is an address."""
    return Field(default=quantities.address(text), json_schema_extra={"default": text}, **about)
