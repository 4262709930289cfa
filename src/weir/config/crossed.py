"""What only shows when sections are seen together."""

from weir.config.document import Document
from weir.config.model import Config, Upstream
from weir.config.policies import Retry, Timeout
from weir.config.problems import Path, Problem


def problems(config: Config, document: Document) -> list[Problem]:
    """Contradictions between sections that are each well formed."""
    found: dict[Path, str] = {}
    for index, upstream in enumerate(config.upstreams):
        _check_upstream(config, upstream, index, document, found)
    names = [upstream.name for upstream in config.upstreams]
    for index, objective in enumerate(config.slo):
        if objective.upstream not in names:
            found[("slo", index, "upstream")] = f"there is no upstream of that name; there is {', '.join(names)}"
    for index, fault in enumerate(config.faults.inject if config.faults else ()):
        if fault.upstream not in names:
            path = ("faults", "inject", index, "upstream")
            found[path] = f"there is no upstream of that name; there is {', '.join(names)}"
    return [Problem(document.place(path), path, text) for path, text in found.items()]


def _check_upstream(config: Config, upstream: Upstream, index: int, document: Document, found: dict[Path, str]) -> None:
    own: Path = ("upstreams", index, "policies")
    _note(_timeout_text(config.timeout_for(upstream)), _written_at(document, own, ("timeout",)), found)
    _note(_retry_text(config.policies_for(upstream).retry), _written_at(document, own, ("retry",)), found)
    for tool in upstream.tools:
        nearest: Path = ("upstreams", index, "tools", tool)
        _note(_timeout_text(config.timeout_for(upstream, tool)), _written_at(document, nearest, ("timeout",)), found)


def _written_at(document: Document, nearest: Path, path: Path) -> Path:
    """Where the operator wrote a policy: for the upstream (or tool) itself, else for all."""
    return nearest + path if nearest + path in document.places else ("policies", *path)


def _note(text: str, path: Path, found: dict[Path, str]) -> None:
    if text:
        found.setdefault(path, text)


def _timeout_text(timeout: Timeout | None) -> str:
    if timeout is None or timeout.mode == "off":
        return ""
    if timeout.attempt_seconds > timeout.total_seconds:
        return "attempt is longer than total, so it can never run out; lower attempt or raise total"
    if timeout.connect_seconds > timeout.total_seconds:
        return "connect is longer than total, so it can never run out; lower connect or raise total"
    return ""


def _retry_text(retry: Retry | None) -> str:
    if retry is not None and retry.backoff.initial_seconds > retry.backoff.max_seconds:
        return "backoff.initial is longer than backoff.max; lower initial or raise max"
    return ""
