"""What a run says of tests that it skipped."""

from support.installs import needs


def test_one_line_names_the_commands_that_bring_what_is_missing() -> None:
    """Each package once; tests that are skipped for other reasons are not counted."""
    reasons = [
        "needs promtool: apt-get install prometheus",
        "needs prometheus: apt-get install prometheus",
        "needs docker-compose: apt-get install docker-compose",
        "needs otelcol: build it (tests/x.yaml says how)",
        "no IPv6 loopback",
    ]
    assert (
        "4 tests were skipped. To run them: apt-get install docker-compose prometheus; build it (tests/x.yaml says how)"
        == needs(reasons)
    )


def test_a_run_that_misses_nothing_says_nothing() -> None:
    """Nor does one whose tests were skipped for what no command brings."""
    assert "" == needs(["no IPv6 loopback"])
