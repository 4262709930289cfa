"""What may become a label: everything that the wire can invent is mapped onto a bounded set.

A tool or prompt name is known once a list reply or the configuration has named it. Methods,
revisions and HTTP versions come from fixed lists, error codes from the first few that were seen.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from weir.protocol import listing
from weir.protocol.methods import REVISIONS, WELL_KNOWN_METHODS
from weir.protocol.shapes import Named
from weir.telemetry.semconv import OTHER

# what a label costs: two histograms of 17 lines for each name that is called
NAME_LIMIT_CHARACTERS: Final = 128
# servers use a handful; a server that invents codes shall not invent series
CODES_LIMIT: Final = 32


_REVISIONS: Final = frozenset({"", *REVISIONS})
_HTTP_VERSIONS: Final = frozenset({"", "1.0", "1.1", "2", "2.0", "3"})
_VERBS: Final = {verb.encode(): verb for verb in ("GET", "POST", "DELETE", "OPTIONS", "HEAD", "PUT", "PATCH")}
_DIGITS: Final = frozenset("-0123456789")
LIST_METHODS: Final = frozenset({"tools/list", "prompts/list"})
NAMING_METHODS: Final = {"tools/call": "tools/list", "prompts/get": "prompts/list"}


class Labels:
    """The bounded sets of one process. `max_values` names are kept for each upstream and list method."""

    def __init__(self, max_values: int, configured_tools: Mapping[str, Collection[str]]) -> None:
        self._max_values = max_values
        self._names: dict[tuple[str, str], set[str]] = {}
        self._codes: set[str] = set()
        self.refused = 0
        """Names that a list reply gave and that found no room."""
        for upstream, names in configured_tools.items():
            self.learn(upstream, "tools/list", names)

    def method(self, method: str) -> str:
        """The method, when it is one of MCP's."""
        return method if method in WELL_KNOWN_METHODS else OTHER

    def name(self, upstream: str, method: str, name: str) -> str:
        """The tool or prompt that `method` names, when the upstream is known to have it; "" for other methods."""
        source = NAMING_METHODS.get(method)
        if source is None:
            return ""
        known = self._names.get((upstream, source))
        return name if known is not None and name in known else OTHER

    def revision(self, revision: str) -> str:
        """The revision, when there is such a one."""
        return revision if revision in _REVISIONS else OTHER

    def http_version(self, version: str) -> str:
        """The HTTP version, when there is such a one."""
        return version if version in _HTTP_VERSIONS else OTHER

    def verb(self, verb: bytes) -> str:
        """The HTTP method, when it is one of the usual."""
        return verb_of(verb)

    def code(self, code: str) -> str:
        """An error code as text, while there is room for it; words of our own always have room."""
        if code[:1] in _DIGITS and code not in self._codes:
            if len(self._codes) >= CODES_LIMIT:
                return OTHER
            self._codes.add(code)
        return code

    def learn(self, upstream: str, list_method: str, names: Iterable[str]) -> None:
        """These names exist: they get series of their own, as far as there is room."""
        known = self._names.setdefault((upstream, list_method), set())
        for name in names:
            if name in known:
                continue
            if len(known) >= self._max_values or not 0 < len(name) <= NAME_LIMIT_CHARACTERS:
                self.refused += 1
                continue
            known.add(name)

    def learn_from_reply(self, upstream: str, list_method: str, body: bytes) -> None:
        """Learn from one JSON-RPC reply to `tools/list` or `prompts/list`. What cannot be read is left out."""
        found = [listing.read(Named, member) for member in listing.page(body, list_method).members]
        self.learn(upstream, list_method, [named.name for named in found if named is not None and named.name])


def verb_of(verb: bytes) -> str:
    """Returns the HTTP method, when it is one of the usual; others are for clients to invent."""
    return _VERBS.get(verb, OTHER)
