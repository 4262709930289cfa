"""The kinds of value a configuration holds: each parses itself and describes itself to editors."""

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PlainValidator,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from weir.config import quantities
from weir.config.problems import Path
from weir.config.quantities import ADDRESS_PATTERN, DURATION_PATTERN, SIZE_PATTERN, Address
from weir.protocol import hosts
from weir.protocol.numbers import whole_number

NAME_PATTERN = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"
MAX_NAME_LENGTH = 63
"""As long as a DNS label: the name is part of paths, labels and file names."""

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NUMBER = re.compile(r"-?[0-9]{1,30}(?:\.[0-9]{1,30})?")
_TOKEN = re.compile(r"[\x21-\x7e]{1,1024}")
_HEADER_VALUE = re.compile(r"[\x20-\x7e\x80-\U0010ffff\t]*")

FRAMING_HEADERS = frozenset(
    ["host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade"]
)
"""Headers that belong to a connection; weir writes them itself."""


class Section(BaseModel):
    """A mapping of the configuration: nothing unknown in it, nothing changed after loading."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, regex_engine="python-re")

    @classmethod
    def contradictions(cls, named: Mapping[str, object]) -> Iterator[tuple[Path, str]]:
        """What is wrong between the keys of a section, as written: a path below it, and the text."""
        yield from ()

    @model_validator(mode="wrap")
    @classmethod
    def _all_at_once(cls, written: object, validate: ModelWrapValidatorHandler[Self]) -> Self:
        """Contradictions are told together with what is wrong with the members, not only after that is mended."""
        if not isinstance(written, dict):
            return validate(written)
        found = [
            InitErrorDetails(type="value_error", loc=path, input=None, ctx={"error": ValueError(text)})
            for path, text in cls.contradictions(written)
        ]
        try:
            section = validate(written)
        except ValidationError as error:
            raise ValidationError.from_exception_data(cls.__name__, [*_again(error), *found]) from None
        if found:
            raise ValidationError.from_exception_data(cls.__name__, found)
        return section


def _again(error: ValidationError) -> list[InitErrorDetails]:
    return [
        InitErrorDetails(
            type=PydanticCustomError(detail["type"], "{said}", {**detail.get("ctx", {}), "said": detail["msg"]}),
            loc=detail["loc"],
            input=None,
        )
        for detail in error.errors(include_url=False, include_input=False)
    ]


def _whole_number(written: object) -> object:
    number: object = None
    if isinstance(written, str):
        digits = whole_number(written.removeprefix("-"))
        number = -digits if digits is not None and written.startswith("-") else digits
    elif isinstance(written, int) and not isinstance(written, bool):
        number = written
    if number is None:
        raise ValueError("{written} is not a whole number")
    return number


def _number(written: object) -> object:
    is_text = isinstance(written, str) and _NUMBER.fullmatch(written) is not None
    if isinstance(written, bool) or not (is_text or isinstance(written, int | float)):
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
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME_LENGTH:
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
    if reason := _host_objection(parts.hostname):
        raise ValueError(f"the URL's host is no host name: {reason}")
    if parts.username is not None or parts.password is not None:
        raise ValueError("a URL must not hold credentials; put them in headers: {Authorization: ...}")
    if parts.fragment:
        raise ValueError("a URL must not have a fragment ('#...')")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("a URL must be ASCII without spaces; encode other characters (%20, xn--...)")
    return url


def _host_objection(host: str) -> str:
    if ":" not in host:
        return hosts.objection(host)
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return "it is not an IPv6 address"
    return ""


def _allowed_host(host: str) -> str:
    """A name that requests may bear, as it stands in Host without port and brackets."""
    if host != "*" and _host_objection(host):
        raise ValueError("{written} is not a host; write the name alone, without scheme, port and brackets")
    return host


def _origin(origin: str) -> str:
    if origin == "*":
        return origin
    parts = urlsplit(http_url(origin))
    if parts.path or parts.query:
        raise ValueError("{written} is not an origin; write scheme, host and port only: 'https://app.example'")
    return origin.lower()


def _header_to_send(name: str) -> str:
    if not _HEADER_NAME.fullmatch(name):
        raise ValueError("not a header name")
    if name.lower() in FRAMING_HEADERS:
        raise ValueError("belongs to the connection, weir writes it itself; leave it out")
    return name


def _header_value(value: str) -> str:
    if not _HEADER_VALUE.fullmatch(value):
        raise ValueError("has a line break or a control character")
    return value


def _once_each(headers: dict[str, str]) -> dict[str, str]:
    seen: dict[str, str] = {}
    for name in headers:
        other = seen.setdefault(name.lower(), name)
        if other != name:
            raise ValueError(f"'{other}' and '{name}' are the same header; keep one")
    return headers


def _header_name(name: str) -> str:
    if not _HEADER_NAME.fullmatch(name):
        raise ValueError("{written} is not a header name")
    return name.lower()


def _variable_name(name: str) -> str:
    if not name or "=" in name or "\0" in name:
        raise ValueError("not the name of a variable")
    return name


def _variable_value(value: str) -> str:
    if "\0" in value:
        raise ValueError("has a NUL character")
    return value


def _token(token: str) -> str:
    if not _TOKEN.fullmatch(token):
        raise ValueError("must be one word of printable ASCII: it travels in a header")
    return token


def _off_or_address(written: object) -> Address | None:
    return None if written in ("off", None) else quantities.address(written)


def _count_or_auto(written: object) -> int | None:
    if written in ("auto", None):
        return None
    count = whole_number(written) if isinstance(written, str) else written
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError("{written} is neither 'auto' nor a whole number of at least 1")
    return count


def _command(command: object) -> object:
    if isinstance(command, str):
        raise ValueError("must be a list of program and arguments: [npx, -y, some-server, /data]")
    if isinstance(command, list) and any(isinstance(part, str) and "\0" in part for part in command):
        raise ValueError("has a NUL character")
    if isinstance(command, list) and command and isinstance(command[0], str) and not command[0].strip():
        raise ValueError("begins with an empty word; the first entry is the program")
    if command == []:
        raise ValueError("must not be empty; the first entry is the program")
    return command


def _schema(pattern: str, *examples: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": list(examples)})


def _empty_is_default(written: object) -> object:
    return {} if written is None else written


Text = Annotated[str, BeforeValidator(_text), WithJsonSchema({"type": ["string", "integer"]})]
Token = Annotated[Text, AfterValidator(_token)]
"""A secret that a caller sends."""
WholeNumber = BeforeValidator(_whole_number)
MAX_COUNT = 10**9
"""A larger count is a mistake; it still fits into 32 bits."""
Count = Annotated[int, Field(ge=1, le=MAX_COUNT), WholeNumber]
CountOrZero = Annotated[int, Field(ge=0, le=MAX_COUNT), WholeNumber]
CountOrAuto = Annotated[
    int | None,
    PlainValidator(_count_or_auto),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"enum": ["auto"]}]}),
]
NumberOrZero = Annotated[float, Field(ge=0, allow_inf_nan=False), BeforeValidator(_number)]
Share = Annotated[float, Field(gt=0, le=1), BeforeValidator(_number)]
"""More than 0, up to 1."""
ShareOrZero = Annotated[float, Field(ge=0, le=1), BeforeValidator(_number)]
Percent = Annotated[float, Field(gt=0, le=100), BeforeValidator(_number)]
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
    _schema(r"^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$", "10.0.0.0/8", "fd00::/8"),
]
AllowedHost = Annotated[Text, AfterValidator(_allowed_host)]
Name = Annotated[str, AfterValidator(_name), Field(json_schema_extra={"pattern": NAME_PATTERN, "examples": ["search"]})]
Url = Annotated[str, AfterValidator(http_url), Field(json_schema_extra={"examples": ["https://host.example/mcp"]})]
Origin = Annotated[str, AfterValidator(_origin), Field(json_schema_extra={"examples": ["https://app.example"]})]
HeaderName = Annotated[str, AfterValidator(_header_name), Field(json_schema_extra={"examples": ["x-api-key"]})]
Headers = Annotated[
    dict[Annotated[str, AfterValidator(_header_to_send)], Annotated[Text, AfterValidator(_header_value)]],
    AfterValidator(_once_each),
]
Environment = dict[Annotated[str, AfterValidator(_variable_name)], Annotated[Text, AfterValidator(_variable_value)]]
Command = Annotated[tuple[Text, ...], BeforeValidator(_command), Field(json_schema_extra={"minItems": 1})]
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
