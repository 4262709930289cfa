"""Whose fault a refusal is."""

import pytest

from weir.core.outcome import Blame, RefusalKind, Refused


@pytest.mark.parametrize(
    ("kind", "blame"),
    [
        (RefusalKind.RATE_LIMITED, Blame.DOWNSTREAM),
        (RefusalKind.CIRCUIT_OPEN, Blame.UPSTREAM),
        (RefusalKind.OVERLOADED, Blame.WEIR),
        (RefusalKind.SESSIONS_FULL, Blame.WEIR),
        (RefusalKind.UNKNOWN_SESSION, Blame.DOWNSTREAM),
        (RefusalKind.BAD_MESSAGE, Blame.DOWNSTREAM),
        (RefusalKind.DRAINING, Blame.WEIR),
    ],
    ids=lambda value: value.value,
)
def test_each_kind_of_refusal_has_a_usual_blame(kind: RefusalKind, blame: Blame) -> None:
    """weir's own shortage is blamed on weir, never on the upstream."""
    assert blame is Refused(kind, "no").blame


def test_a_client_that_used_up_its_own_share_is_blamed() -> None:
    """A cause that is named replaces the usual one."""
    assert Blame.DOWNSTREAM is Refused(RefusalKind.OVERLOADED, "no", caused_by=Blame.DOWNSTREAM).blame


def test_every_kind_of_refusal_has_a_blame() -> None:
    """A new kind without one would fail where a client is answered."""
    assert all(isinstance(Refused(kind, "no").blame, Blame) for kind in RefusalKind)
