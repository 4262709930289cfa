"""What each method is, in every revision: may it be repeated, does it last, what does it name.

Facts, from the schemas of MCP 2024-11-05 to 2026-07-28, the tasks of 2025-11-25 and the tasks extension.
Repeatability is no promise of the specification (it has no idempotency): it is what the operation means.
A method that is not here gets the careful answer, and is relayed like any other.
"""

import enum
import re
from typing import Final, NamedTuple

REVISIONS: Final = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28")
"""The revisions of the specification, oldest first."""

MODERN: Final = "2026-07-28"
"""The first revision without handshake and sessions: each request states revision and capabilities itself."""

LISTS: Final = frozenset({"tools/list", "prompts/list"})
"""What names what: the answers tell which tools and prompts there are."""

_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class Repeat(enum.Enum):
    """Whether doing it twice is as good as once, when nobody knows if the first try was carried out.

    READ changes nothing. SET leaves the same state behind. ASK depends on what is called: the operator's
    word, or a trusted server's hint, decides. NEVER may double an effect, a prompt or a cost.
    """

    READ = "read"
    SET = "set"
    ASK = "ask"
    NEVER = "never"


class Named(enum.Enum):
    """What a request names. Tools and prompts are few and may label metrics; URIs and task ids are neither."""

    NOTHING = ""
    TOOL = "tool"
    PROMPT = "prompt"
    URI = "uri"
    TASK = "task"


class Traffic(enum.Enum):
    """What kind of work a method asks for: what must not wait, what somebody waits for, what can wait."""

    CONTROL = "control"
    INTERACTIVE = "interactive"
    LIST = "list"


class Facts(NamedTuple):
    """What is known of one method. The defaults are the careful answers, for a method that nobody knows."""

    revisions: tuple[str, ...] = ()
    """Where it exists, oldest first. Empty: unknown."""
    repeat: Repeat = Repeat.NEVER
    named: Named = Named.NOTHING
    header_param: str = ""
    """The member of `params` that 2026-07-28 mirrors in the header `Mcp-Name`, "" for none."""
    is_long_lived: bool = False
    """Its reply takes as long as it takes: only silence may end it."""
    is_exempt: bool = False
    """Passes limits, queues and an open breaker: refusing it downgrades a client, or blocks what waits for it."""
    is_handshake: bool = False
    """Decides the revision and session of everything after it; never sent twice once bytes have left."""
    is_cacheable: bool = False
    """2026-07-28 puts `ttlMs` and `cacheScope` on its result."""

    @property
    def is_repeatable(self) -> bool:
        """True when a try of unknown outcome may be repeated without anybody's word for it."""
        return self.repeat in (Repeat.READ, Repeat.SET) and not self.is_handshake


def facts(method: str) -> Facts:
    """What is known of `method`; of an unknown one, that nothing may be assumed."""
    found = _FACTS.get(method)
    if found is not None:
        return found
    return _UNKNOWN_NOTIFICATION if method.startswith("notifications/") else _UNKNOWN


def traffic_class(method: str) -> Traffic:
    """Which traffic `method` belongs to. An unknown one is interactive, unless its name says list or notification."""
    if method.endswith("/list") or method == "server/discover":
        return Traffic.LIST
    return Traffic.CONTROL if facts(method).is_exempt else Traffic.INTERACTIVE


def is_modern(revision: str) -> bool:
    """True for 2026-07-28 and every later date. A string that is no date is not modern."""
    return revision == MODERN or (_DATE.fullmatch(revision) is not None and revision > MODERN)


_ALL: Final = REVISIONS
_LEGACY: Final = REVISIONS[:4]
_SINCE_ELICITATION: Final = REVISIONS[2:4]
_2025_11: Final = REVISIONS[3:4]
_2026_07: Final = REVISIONS[4:]
_TASKS: Final = REVISIONS[3:]

_UNKNOWN: Final = Facts()
_UNKNOWN_NOTIFICATION: Final = Facts(is_exempt=True)


def _notification(revisions: tuple[str, ...]) -> Facts:
    return _UNKNOWN_NOTIFICATION._replace(revisions=revisions)


_FACTS: Final = {
    # client to server
    "initialize": Facts(_LEGACY, is_exempt=True, is_handshake=True),
    "server/discover": Facts(_2026_07, Repeat.READ, is_exempt=True, is_handshake=True, is_cacheable=True),
    "tools/list": Facts(_ALL, Repeat.READ, is_cacheable=True),
    "tools/call": Facts(_ALL, Repeat.ASK, Named.TOOL, "name"),
    "prompts/list": Facts(_ALL, Repeat.READ, is_cacheable=True),
    "prompts/get": Facts(_ALL, Repeat.READ, Named.PROMPT, "name"),
    "resources/list": Facts(_ALL, Repeat.READ, is_cacheable=True),
    "resources/templates/list": Facts(_ALL, Repeat.READ, is_cacheable=True),
    "resources/read": Facts(_ALL, Repeat.READ, Named.URI, "uri", is_cacheable=True),
    "resources/subscribe": Facts(_LEGACY, Repeat.SET, Named.URI),
    "resources/unsubscribe": Facts(_LEGACY, Repeat.SET, Named.URI),
    "subscriptions/listen": Facts(_2026_07, is_long_lived=True),
    "completion/complete": Facts(_ALL, Repeat.READ),
    "logging/setLevel": Facts(_LEGACY, Repeat.SET),
    # both ways (tasks of 2025-11-25 are asked for by whoever did not start them; the extension's only by clients)
    "ping": Facts(_LEGACY, Repeat.READ, is_exempt=True),
    "tasks/get": Facts(_TASKS, Repeat.READ, Named.TASK, "taskId"),
    "tasks/list": Facts(_2025_11, Repeat.READ),
    "tasks/result": Facts(_2025_11, Repeat.READ, Named.TASK, is_long_lived=True),
    # a second cancel may be answered with an error in 2025-11-25, and is an acknowledgement in the extension
    "tasks/cancel": Facts(_TASKS, Repeat.SET, Named.TASK, "taskId", is_exempt=True),
    "tasks/update": Facts(_2026_07, Repeat.NEVER, Named.TASK, "taskId"),
    # server to client; in 2026-07-28 they travel inside results and are no messages of their own
    "roots/list": Facts(_LEGACY, Repeat.READ),
    "sampling/createMessage": Facts(_LEGACY),
    "elicitation/create": Facts(_SINCE_ELICITATION),
    # client to server
    "notifications/initialized": _notification(_LEGACY),
    "notifications/roots/list_changed": _notification(_LEGACY),
    # both ways
    "notifications/cancelled": _notification(_ALL),
    "notifications/progress": _notification(_ALL),
    "notifications/tasks/status": _notification(_2025_11),
    # server to client
    "notifications/message": _notification(_ALL),
    "notifications/tools/list_changed": _notification(_ALL),
    "notifications/prompts/list_changed": _notification(_ALL),
    "notifications/resources/list_changed": _notification(_ALL),
    "notifications/resources/updated": _notification(_ALL),
    "notifications/subscriptions/acknowledged": _notification(_2026_07),
    "notifications/elicitation/complete": _notification(_2025_11),
    "notifications/tasks": _notification(_2026_07),
}

LONG_LIVED: Final = frozenset(method for method, known in _FACTS.items() if known.is_long_lived)
"""Methods whose answer takes as long as it takes."""

WELL_KNOWN_METHODS: Final = frozenset(_FACTS)
"""Every method of every revision, both directions, and the tasks extension: what may label a metric."""
