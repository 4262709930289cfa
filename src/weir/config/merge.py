"""One section over another: what the upper one says wins, what it leaves out shines through."""

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


def policies(base: Policies, upper: Policies) -> Policies:
    """As `over`, but rate limits are added to those below; an empty list clears them."""
    result = over(base, upper)
    if upper.rate_limits:
        result = result.model_copy(update={"rate_limits": base.rate_limits + upper.rate_limits})
    return result
