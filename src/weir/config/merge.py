"""One section over another: what the upper one says wins, what it leaves out shines through."""

from collections.abc import Mapping
from typing import TypeVar

from weir.config.fields import Section
from weir.config.policies import Policies

S = TypeVar("S", bound=Section)


def over(base: S, upper: S) -> S:
    """`base` with what `upper` names of it, section by section."""
    changes: dict[str, object] = {}
    for field in upper.model_fields_set & type(base).model_fields.keys():
        below, above = getattr(base, field), getattr(upper, field)
        if isinstance(below, Section) and isinstance(above, Section):
            above = over(below, above)
        changes[field] = above
    return base.model_copy(update=changes)


def of_tools(base: S, said: Mapping[str, S | None]) -> dict[str, S]:
    """What holds for the single tools of which something is said: that, over what is said for all."""
    return {tool: over(base, own) for tool, own in said.items() if own is not None}


def policies(base: Policies, upper: Policies) -> Policies:
    """As `over`, but rate limits are added to those below; an empty list clears them."""
    result = over(base, upper)
    if upper.rate_limits:
        result = result.model_copy(update={"rate_limits": base.rate_limits + upper.rate_limits})
    return result
