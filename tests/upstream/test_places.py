"""Who gets a place, when places are short."""

import asyncio

import pytest

from weir.upstream.places import Places, Waiter, requests_share, streams_share

pytestmark = pytest.mark.anyio

ANN, BEN = "ann", "ben"


def waiter() -> Waiter:
    return asyncio.get_running_loop().create_future()


@pytest.mark.parametrize(("limit", "requests", "streams"), [(1, 1, 1), (2, 1, 1), (8, 7, 4), (100, 88, 50)])
def test_one_client_leaves_places_to_others(limit: int, requests: int, streams: int) -> None:
    """Of a single place nothing can be left."""
    assert (requests, streams) == (requests_share(limit), streams_share(limit))


def test_a_client_at_its_share_is_not_admitted_and_another_is() -> None:
    """Nobody in particular has no share."""
    places = Places("connections", 3, 2)
    for _ in range(2):
        places.reserve(ANN)
    assert (False, True, True) == tuple(places.admits(client, set()) for client in (ANN, BEN, None))
    places.reserve(BEN)
    assert (False, False, False) == tuple(places.admits(client, set()) for client in (ANN, BEN, None))


async def test_clients_that_wait_take_turns() -> None:
    """However many requests one of them has waiting; each client's own go in their order."""
    places = Places("connections", 8, 7)
    crowd, one = [waiter() for _ in range(3)], waiter()
    for each in crowd:
        places.wait(ANN, each)
    places.wait(BEN, one)
    turns = [places.next(set()) for _ in range(5)]
    assert [(ANN, crowd[0]), (BEN, one), (ANN, crowd[1]), (ANN, crowd[2]), None] == turns


async def test_a_client_at_its_share_waits_while_another_passes_it() -> None:
    """Its turn comes when it has fewer places."""
    places = Places("connections", 3, 2)
    first, second = waiter(), waiter()
    for _ in range(2):
        places.reserve(ANN)
    places.wait(ANN, first)
    places.wait(BEN, second)
    assert (BEN, second) == places.next(set())
    assert None is places.next(set())
    places.opened(ANN)
    assert (ANN, first) == places.next(set())


async def test_a_waiter_that_was_cancelled_gets_nothing() -> None:
    """Whether it has said so yet or not."""
    places = Places("connections", 8, 7)
    forgotten, cancelled, last = waiter(), waiter(), waiter()
    for each in (forgotten, cancelled, last):
        places.wait(ANN, each)
    places.forget(ANN, forgotten)
    cancelled.cancel()
    assert (ANN, last) == places.next(set())
    assert None is places.next(set())
