"""Values that exist: what is outside these lists was invented by somebody."""

REVISIONS = frozenset({"", "2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"})
HTTP_VERSIONS = frozenset({"", "1.0", "1.1", "2", "2.0", "3"})
VERBS = {verb.encode(): verb for verb in ("GET", "POST", "DELETE", "OPTIONS", "HEAD", "PUT", "PATCH")}
METHODS = frozenset(
    {
        "initialize",
        "ping",
        "server/discover",
        "tools/list",
        "tools/call",
        "prompts/list",
        "prompts/get",
        "resources/list",
        "resources/read",
        "resources/templates/list",
        "resources/subscribe",
        "resources/unsubscribe",
        "subscriptions/listen",
        "completion/complete",
        "logging/setLevel",
        "tasks/get",
        "tasks/list",
        "tasks/update",
        "tasks/cancel",
        "tasks/result",
        "sampling/createMessage",
        "roots/list",
        "elicitation/create",
        "notifications/cancelled",
        "notifications/initialized",
        "notifications/progress",
        "notifications/message",
        "notifications/resources/list_changed",
        "notifications/resources/updated",
        "notifications/prompts/list_changed",
        "notifications/tools/list_changed",
        "notifications/roots/list_changed",
        "notifications/tasks/status",
        "notifications/elicitation/complete",
        "notifications/subscriptions/acknowledged",
    }
)
