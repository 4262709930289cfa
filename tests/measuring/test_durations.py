"""What CI says of the time that tests took."""

from support.durations import BUDGETS, by_folder, table


def test_the_seconds_of_a_test_belong_to_its_first_folder() -> None:
    """Set-up and teardown count; a test beside the folders has none."""
    seconds = [
        ("tests/relay/test_a.py::test_b[x/y]", 1.0),
        ("tests/relay/sub/test_a.py::test_b", 0.5),
        ("tests/t.py::t", 2.0),
    ]
    assert {"relay": 1.5, ".": 2.0} == by_folder(seconds)


def test_a_folder_over_its_budget_is_named() -> None:
    """The slowest comes first."""
    budget = BUDGETS["hostile"]
    assert ["    361 s  tests/hostile of 360 s  OVER BUDGET", "      3 s  tests/relay"] == table(
        {"relay": 3.0, "hostile": budget + 1.0}
    )
    assert [f"    360 s  tests/hostile of {budget} s"] == table({"hostile": budget})
