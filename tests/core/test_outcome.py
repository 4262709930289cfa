"""Whose fault a refusal is."""

import pytest

from weir.core.call import NOWHERE, Attempt, Call, Peer, Transport
from weir.core.outcome import Blame, RefusalKind, Refused, Sent, bug_in


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


@pytest.mark.parametrize(("sent_at", "expected"), [(0.0, Sent.NO), (5.0, Sent.YES)])
def test_a_bug_says_not_sent_only_when_nothing_was_sent(sent_at: float, expected: Sent) -> None:
    """A client that hears "not sent" may try a write again."""
    call = Call(upstream="u", peer=Peer(Transport.HTTP), sink=NOWHERE, received_at=1.0)
    attempt = Attempt(call, 1, 1.0)
    attempt.sent_at = sent_at
    call.attempts.append(attempt)
    assert expected is bug_in(call).sent
