"""What only shows when policies are laid over each other: each is well formed, together they contradict."""

from weir.config.document import Document
from weir.config.model import Config, Upstream
from weir.config.policies import Retry, Timeout
from weir.config.problems import Path, Problem


def problems(config: Config, document: Document) -> list[Problem]:
    """Contradictions in the policies that result for each upstream and tool, each told once."""
    found: dict[Path, str] = {}
    for index, upstream in enumerate(config.upstreams):
        _check(config, upstream, index, document, found)
    return [document.problem(path, text) for path, text in found.items()]


def _check(config: Config, upstream: Upstream, index: int, document: Document, found: dict[Path, str]) -> None:
    own: Path = ("upstreams", index, "policies")
    _note(_timeout(config.timeout_for(upstream)), _nearest(document, own, "timeout"), found)
    _note(_retry(config.policies_for(upstream).retry), _nearest(document, own, "retry"), found)
    for tool in upstream.tools:
        place = _nearest(document, ("upstreams", index, "tools", tool), "timeout")
        _note(_timeout(config.timeout_for(upstream, tool)), place, found)


def _nearest(document: Document, own: Path, policy: str) -> Path:
    """Where the operator wrote a policy: for the upstream (or tool) itself, else for all."""
    return (*own, policy) if document.has((*own, policy)) else ("policies", policy)


def _note(text: str, path: Path, found: dict[Path, str]) -> None:
    if text:
        found.setdefault(path, text)


def _timeout(timeout: Timeout | None) -> str:
    if timeout is None or timeout.mode == "off":
        return ""
    for name, seconds in (("attempt", timeout.attempt_seconds), ("connect", timeout.connect_seconds)):
        if seconds > timeout.total_seconds:
            return f"{name} is longer than total, so it could never run out; lower {name} or raise total"
    return ""


def _retry(retry: Retry | None) -> str:
    if retry is not None and retry.backoff.initial_seconds > retry.backoff.max_seconds:
        return "backoff.initial is longer than backoff.max; lower initial or raise max"
    return ""
