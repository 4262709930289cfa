"""weir's own file, flags over it, and everything that can be wrong with them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.config.load import Overrides, from_command, from_upstream, load
from weir.config.model import Always, Config
from weir.config.problems import ConfigError
from weir.config.quantities import Address

ROOT = Path(__file__).parents[2]
ONE = "upstreams:\n  - {name: search, url: http://127.0.0.1:9000/mcp}\n"


class Files:
    """Writes configuration files and loads them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, text: str, *, overrides: Overrides | None = None, **environ: str) -> Config:
        file = self.folder / "weir.yaml"
        file.write_text(text)
        return load(str(file), environ, overrides or Overrides())

    def problems(self, text: str, *, overrides: Overrides | None = None, **environ: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            self.load(text, overrides=overrides, **environ)
        return str(caught.value).replace(f"{self.folder}/", "").splitlines()


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """A folder to write configuration files in."""
    return Files(tmp_path)


def test_the_example_is_valid_and_shows_the_defaults() -> None:
    """What it shows is what a section has when it is there and empty."""
    example = load(str(ROOT / "weir.example.yaml"), {})
    policies = example.policies
    assert policies is not None
    assert policies.timeout is not None
    assert (5.0, 60.0, 120.0, 300.0, 600.0) == (
        policies.timeout.connect_seconds,
        policies.timeout.attempt_seconds,
        policies.timeout.total_seconds,
        policies.timeout.idle_seconds,
        policies.timeout.client_input_seconds,
    )
    assert {"X-Team": "none"} == example.upstreams[0].headers
    assert ("enforce", "shadow") == tuple(limit.mode for limit in policies.rate_limits)


SECTIONS = ["timeout", "retry", "breaker", "concurrency", "coalesce", "hedge"]


@pytest.mark.parametrize("section", SECTIONS)
def test_an_empty_policy_has_the_values_of_the_example(files: Files, section: str) -> None:
    """The example and the model agree."""
    example = load(str(ROOT / "weir.example.yaml"), {}).policies
    empty = files.load(f"{ONE}policies:\n  {section}:\n").policies
    assert getattr(example, section) == getattr(empty, section)
    assert getattr(empty, section) is not None


@pytest.mark.parametrize("section", ["listen", "sessions", "drain", "refusals", "faults", "telemetry"])
def test_an_empty_section_has_the_values_of_the_example(files: Files, section: str) -> None:
    """A section that is named is there, with its defaults."""
    example = load(str(ROOT / "weir.example.yaml"), {})
    empty = getattr(files.load(f"{ONE}{section}:\n"), section)
    if section == "telemetry":
        empty = getattr(files.load(f"{ONE}telemetry: {{traces: {{}}, journal: }}\n"), section)
    assert getattr(example, section) == empty


def test_a_section_left_out_is_off_but_limits_are_always_on(files: Files) -> None:
    """Nothing hangs and nothing grows without end, whatever is configured."""
    config = files.load(ONE)
    assert (None, None, None, None) == (config.policies, config.sessions, config.drain, config.faults)
    assert config.telemetry.traces is None
    only = config.upstreams[0]
    assert (5.0, 300.0) == (config.connect_seconds(only), config.idle_seconds(only))
    assert (Always.DRAIN_SECONDS, 1000) == (config.drain_seconds, config.max_sessions)
    assert (16 * 1024**2, 4 * 1024**2) == (config.listen.max_body_bytes, config.listen.max_reply_buffer_bytes)


def test_an_upstream_lays_its_policies_over_the_general_ones(files: Files) -> None:
    """Key by key; its rate limits are added; an empty list clears them."""
    config = files.load(
        """
upstreams:
  - name: a
    url: http://127.0.0.1:1
    policies:
      timeout: {attempt: 30s}
      retry: {budget: {ratio: 0.5}}
      rate_limits: [{per: tool, limit: 1, window: 1s}]
    tools: {slow: {timeout: {attempt: 100s}}, odd: {retry: never}}
  - {name: b, url: "http://127.0.0.1:2", policies: {rate_limits: [], retry: {mode: off}}}
  - {name: c, url: "http://127.0.0.1:3"}
policies:
  timeout: {connect: 1s, idle: 10s}
  retry: {attempts: 5}
  rate_limits: [{per: [client, tool], limit: 9, window: 1m}]
"""
    )
    a, b, c = (config.policies_for(upstream) for upstream in config.upstreams)
    assert a.timeout
    assert a.retry
    assert b.retry
    assert c.retry
    assert (1.0, 30.0) == (a.timeout.connect_seconds, a.timeout.attempt_seconds)
    assert (5, 0.5, 1.0) == (a.retry.attempts, a.retry.budget.ratio, a.retry.budget.min_per_second)
    assert [("client", "tool"), ("tool",)] == [limit.per for limit in a.rate_limits]
    assert () == b.rate_limits
    assert ("off", 5, "enforce") == (b.retry.mode, b.retry.attempts, c.retry.mode)
    slow = config.timeout_for(config.upstreams[0], "slow")
    assert slow is not None
    assert (100.0, 10.0) == (slow.attempt_seconds, slow.idle_seconds)
    assert a.timeout == config.timeout_for(config.upstreams[0], "odd")
    assert (1.0, 10.0) == (config.connect_seconds(config.upstreams[2]), config.idle_seconds(config.upstreams[2]))


def test_a_tool_may_have_limits_where_the_upstream_has_none(files: Files) -> None:
    """The defaults fill what it leaves out."""
    config = files.load(ONE.replace("/mcp}", "/mcp, tools: {slow: {timeout: {total: 1h, attempt: 1h}}}}"))
    only = config.upstreams[0]
    assert config.timeout_for(only) is None
    slow = config.timeout_for(only, "slow")
    assert slow is not None
    assert (3600.0, 300.0) == (slow.total_seconds, slow.idle_seconds)


def test_everything_wrong_is_told_at_once_in_the_order_of_the_file(files: Files) -> None:
    """One line each: place, path, reason, mend."""
    text = """\
listen: {http: 8931, diagnostics: off, max_body: 16}
upstreams:
  - name: Search
    url: http://${HOST}/
    polices: {}
    headers: {X-Team: "${TEAM}", Connection: close, Authorization: 1.5}
  - name: b
    command: npx foo
    command: [a]
  - {name: c, url: "http://x", env: {A: b}}
policies:
  timeout: {total: 5, mode: of}
  retry: {attempts: 50, trust_annotations: yes}
slo:
  - {name: a, upstream: zz, availability: 2}
  - {name: a, upstream: b, under: 1s}
"""
    assert [
        "weir.yaml:1: listen.http: '8931' names no host; write '127.0.0.1:PORT' for this machine only, "
        "'0.0.0.0:PORT' for every interface",
        "weir.yaml:1: listen.max_body: '16' has no unit; write for example '512KiB' or '16MiB'",
        "weir.yaml:3: upstreams[0].name: 'Search' is not a name; use a-z, 0-9 and '-', at most 63 of them, "
        "not '-' at an end",
        "weir.yaml:4: upstreams[0].url: the variable HOST is not set; set it, or write '${HOST:-default}'",
        "weir.yaml:5: upstreams[0].polices: unknown key; did you mean 'policies'?",
        "weir.yaml:6: upstreams[0].headers.X-Team: the variable TEAM is not set; set it, or write '${TEAM:-default}'",
        "weir.yaml:6: upstreams[0].headers.Connection: belongs to the connection, weir writes it itself; leave it out",
        "weir.yaml:6: upstreams[0].headers.Authorization: this must be in quotes to be text",
        "weir.yaml:8: upstreams[1].command: must be a list of program and arguments: [npx, -y, some-server, /data]",
        "weir.yaml:9: upstreams[1].command: is there twice, first in line 8; keep one",
        "weir.yaml:10: upstreams[2].env: has no meaning beside url; leave it out",
        "weir.yaml:12: policies.timeout.mode: 'of' is not enforce, shadow or off; did you mean 'off'?",
        "weir.yaml:12: policies.timeout.total: '5' has no unit; write for example '5s' for seconds "
        "or '50ms' for milliseconds",
        "weir.yaml:13: policies.retry.attempts: '50' is too large; at most 10",
        "weir.yaml:13: policies.retry.trust_annotations: 'yes' is neither true nor false",
        "weir.yaml:15: slo[0].availability: '2' is too large; at most 1",
        "weir.yaml:15: slo[0].upstream: 'zz' is the name of no upstream",
        "weir.yaml:16: slo[1]: under and ratio go together; add the other one",
        "weir.yaml:16: slo[1].name: slo[0].name is the same; names must differ",
    ] == files.problems(text)


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        ("weir.yaml:1: upstreams: is required", "{}"),
        ("weir.yaml:1: upstreams: needs at least one", "upstreams: []"),
        ("weir.yaml:1: upstreams: must be a list: [...]", "upstreams: {name: a}"),
        ("weir.yaml:1: must be a mapping: {key: value}", "just a word"),
        ("weir.yaml:1: upstreams[0]: must be a mapping: {key: value}", "upstreams: [a]"),
        ("weir.yaml:1: upstreams[0]: needs exactly one of url and command", "upstreams: [{name: a}]"),
        (
            "weir.yaml:1: upstreams[0]: needs exactly one of url and command",
            "upstreams: [{name: a, url: 'http://x', command: [b]}]",
        ),
        ("weir.yaml:1: upstreams[0].command: must not be empty", "upstreams: [{name: a, command: []}]"),
        ("weir.yaml:1: upstreams[0].url: this is not an http or https URL", "upstreams: [{name: a, url: 'ws://x'}]"),
        ("weir.yaml:1: upstreams[0].url: a URL must not hold cred", "upstreams: [{name: a, url: 'http://u:p@x'}]"),
        ("weir.yaml:1: upstreams[0].url: a URL must not have a frag", "upstreams: [{name: a, url: 'http://x/#y'}]"),
        ("weir.yaml:1: upstreams[0].url: this is not a URL", "upstreams: [{name: a, url: 'http://[x'}]"),
        ("weir.yaml:1: upstreams[0].url: this is not a URL", "upstreams: [{name: a, url: 'http://x:99999'}]"),
        ("weir.yaml:1: upstreams[0].url: a URL must be ASCII", "upstreams: [{name: a, url: 'http://x/ä'}]"),
        (
            "weir.yaml:1: upstreams[0].connections: '0' is too small; at least 1",
            "upstreams: [{name: a, url: 'http://x', connections: 0}]",
        ),
        (
            "weir.yaml:1: upstreams[0].connections: 'true' is not a whole number",
            "upstreams: [{name: a, url: 'http://x', connections: true}]",
        ),
        (
            "weir.yaml:1: upstreams[0].tls.key: key without cert; add cert",
            "upstreams: [{name: a, url: 'http://x', tls: {key: k}}]",
        ),
        (
            "weir.yaml:1: upstreams[0].headers: 'A' and 'a' are the same header; keep one",
            "upstreams: [{name: a, url: 'http://x', headers: {A: b, a: c}}]",
        ),
        (
            "weir.yaml:1: upstreams[0].headers.A B: not a header name",
            "upstreams: [{name: a, url: 'http://x', headers: {A B: c}}]",
        ),
        (
            "weir.yaml:1: upstreams[0].headers.A: has a line break or a control character",
            'upstreams: [{name: a, url: "http://x", headers: {A: "b\\r\\nX: y"}}]',
        ),
        (
            "weir.yaml:1: upstreams[0].tools.t.timout: unknown key; did you mean 'timeout'?",
            "upstreams: [{name: a, url: 'http://x', tools: {t: {timout: 1s}}}]",
        ),
        (
            "weir.yaml:1: upstreams[0].tools.t.zzz: unknown key; known here: retry, timeout",
            "upstreams: [{name: a, url: 'http://x', tools: {t: {zzz: 1s}}}]",
        ),
        (
            "weir.yaml:1: upstreams[0].tools.t.retry: 'alwais' is not auto, always or never; did you mean 'always'?",
            "upstreams: [{name: a, url: 'http://x', tools: {t: {retry: alwais}}}]",
        ),
        (
            "weir.yaml:1: upstreams[0].tools.t.retry.budget: is one for all tools of an upstream; leave it out",
            "upstreams: [{name: a, url: 'http://x', tools: {t: {retry: {budget: {ratio: 0.1}}}}}]",
        ),
        ("weir.yaml:3: <<: merge keys are not part of YAML 1.2", f"{ONE}<<: {{}}"),
        ("weir.yaml:3: listen: http and diagnostics are the", f"{ONE}listen: {{http: 'a:1', diagnostics: 'a:1'}}"),
        ("weir.yaml:3: listen.trusted_proxies[0]: 'x' is not a CIDR", f"{ONE}listen: {{trusted_proxies: [x]}}"),
        (
            "weir.yaml:3: listen.allowed_origins[0]: 'https://a/b' is not an origin",
            f"{ONE}listen: {{allowed_origins: [https://a/b]}}",
        ),
        ("weir.yaml:3: policies.timeout: attempt is longer than total", f"{ONE}policies: {{timeout: {{total: 1s}}}}"),
        (
            "weir.yaml:3: policies.retry: backoff.initial is longer than backoff.max",
            f"{ONE}policies: {{retry: {{backoff: {{initial: 3s}}}}}}",
        ),
        (
            "weir.yaml:3: policies.timeout.idle: '0s' must be more than nothing",
            f"{ONE}policies: {{timeout: {{idle: 0s}}}}",
        ),
        (
            "weir.yaml:3: policies.breaker.failure_rate: '0' is too small; it must be more than 0",
            f"{ONE}policies: {{breaker: {{failure_rate: 0}}}}",
        ),
        (
            "weir.yaml:3: policies.breaker.half_open_probes: '0' is too small; at least 1",
            f"{ONE}policies: {{breaker: {{half_open_probes: 0}}}}",
        ),
        (
            "weir.yaml:3: policies.rate_limits[0].per: names the same thing twice",
            f"{ONE}policies: {{rate_limits: [{{per: [tool, tool], limit: 1, window: 1s}}]}}",
        ),
        (
            "weir.yaml:3: policies.rate_limits[0].per: 'clients' is not client, tool, upstream, method_class "
            "or global; did you mean 'client'?",
            f"{ONE}policies: {{rate_limits: [{{per: clients, limit: 1, window: 1s}}]}}",
        ),
        (
            "weir.yaml:3: policies.rate_limits[0].window: is required",
            f"{ONE}policies: {{rate_limits: [{{per: tool, limit: 1}}]}}",
        ),
        ("weir.yaml:3: policies.hedge.after: 'p' is neither", f"{ONE}policies: {{hedge: {{after: p}}}}"),
        (
            "weir.yaml:3: faults.inject: has no effect without",
            f"{ONE}faults: {{inject: [{{upstream: search, reset: true}}]}}",
        ),
        (
            "weir.yaml:3: faults.inject[0].upstream: 'x' is the name of no upstream",
            f"{ONE}faults: {{allow: true, inject: [{{upstream: x, latency: 1s}}]}}",
        ),
        (
            "weir.yaml:3: faults.inject[0]: injects nothing; add one of latency",
            f"{ONE}faults: {{allow: true, inject: [{{upstream: search, percent: 5}}]}}",
        ),
        (
            "weir.yaml:3: faults.inject[0].status: comes instead of the answer, and so does reset; keep one",
            f"{ONE}faults: {{allow: true, inject: [{{upstream: search, reset: true, status: 503}}]}}",
        ),
        (
            "weir.yaml:3: faults.inject[0].status: '200' is too small; at least 400",
            f"{ONE}faults: {{allow: true, inject: [{{upstream: search, status: 200}}]}}",
        ),
        ("weir.yaml:3: slo[0]: needs exactly one of", f"{ONE}slo: [{{name: a, upstream: search}}]"),
    ],
)
def test_a_mistake_names_place_path_reason_and_mend(files: Files, problem: str, text: str) -> None:
    """Each of them alone."""
    found = files.problems(text)
    assert [True] == [line.startswith(problem) for line in found], found


def test_policies_that_contradict_only_together_are_told_where_they_are_written(files: Files) -> None:
    """For the upstream or the tool that has them, else for all."""
    text = """\
upstreams:
  - name: a
    url: http://127.0.0.1:1
    policies: {timeout: {attempt: 100s}}
    tools:
      slow:
        timeout: {attempt: 5m}
policies:
  timeout: {total: 90s}
"""
    assert [
        "weir.yaml:4: upstreams[0].policies.timeout: attempt is longer than total, so it could never run out; "
        "lower attempt or raise total",
        "weir.yaml:7: upstreams[0].tools.slow.timeout: attempt is longer than total, so it could never run out; "
        "lower attempt or raise total",
    ] == files.problems(text)


SECRET = "s3cr3t-VALUE"


@pytest.mark.parametrize(
    "text",
    [
        "upstreams: [{name: '${S}', url: 'ftp://${S}'}]",
        "upstreams: [{name: a, command: [b], cwd: '${S}', url: '${S}', transport: '${S}'}]",
        "upstreams: [{name: a, url: 'http://x', headers: {A: \"${S}\\n\"}, connections: '${S}'}]",
        f"{ONE}listen: {{http: '${{S}}', max_body: '${{S}}', trusted_proxies: ['${{S}}'], public_url: '${{S}}'}}",
        f"{ONE}listen: {{allowed_origins: ['${{S}}'], diagnostics: '${{S}}', tls: '${{S}}'}}",
        f"{ONE}policies: {{timeout: {{total: '${{S}}', mode: '${{S}}', extend_on_progress: '${{S}}'}}}}",
        f"{ONE}policies: {{client_key: '${{S}} x', hedge: {{after: '${{S}}'}}, breaker: {{failure_rate: '${{S}}'}}}}",
        f"{ONE}slo: [{{name: a, upstream: '${{S}}', availability: '${{S}}'}}]",
        f"{ONE}policies: '${{S}}'",
        f"{ONE}sessions: {{max: '${{S}}', resurrect: '${{S}}'}}",
    ],
)
def test_the_value_of_a_variable_is_in_no_error(files: Files, text: str) -> None:
    """What stands in the file is shown instead."""
    assert SECRET not in "\n".join(files.problems(text, S=SECRET))


@pytest.mark.parametrize("key", ["headers: {A: 1.5}", "env: {A: 1.5}", "url: 'ftp://s3cr3t-VALUE'"])
def test_a_secret_in_the_file_itself_is_in_no_error_either(files: Files, key: str) -> None:
    """Nobody should write it there, but logs are read by more people than files."""
    found = "\n".join(files.problems(f"upstreams: [{{name: a, {key}}}]"))
    assert SECRET not in found
    assert "1.5" not in found


def test_variables_may_stand_for_numbers_and_switches(files: Files) -> None:
    """They are text until the model knows better."""
    text = f"{ONE}sessions: {{max: '${{MAX}}'}}\nrefusals: {{http_200: '${{YES}}'}}\n"
    config = files.load(text, MAX="7", YES="true")
    assert (7, True) == (config.max_sessions, config.refusals.http_200)


def test_a_number_in_text_keeps_its_characters(files: Files) -> None:
    """Variables and arguments are often numbers."""
    config = files.load("upstreams: [{name: a, command: [b, -p, 8080, 007], env: {PORT: 8080, ID: 007}}]")
    assert ("b", "-p", "8080", "007") == config.upstreams[0].command
    assert {"PORT": "8080", "ID": "007"} == config.upstreams[0].env


def test_flags_apply_on_top_of_the_file(files: Files) -> None:
    """And their mistakes name the flag."""
    text = f"{ONE}listen: {{http: 127.0.0.1:1, diagnostics: off}}\ntelemetry: {{logs: {{level: error}}}}\n"
    config = files.load(text, overrides=Overrides("127.0.0.1:2", "127.0.0.1:3", "other", "debug", "json"))
    assert (Address("127.0.0.1", 2), Address("127.0.0.1", 3)) == (config.listen.http, config.listen.diagnostics)
    assert ("other", "debug", "json") == (
        config.upstreams[0].name,
        config.telemetry.logs.level,
        config.telemetry.logs.format,
    )
    found = files.problems(text, overrides=Overrides("8931", "127.0.0.1", "A B", "loud", "xml"))
    assert ["--diagnostics", "--listen", "--log-format", "--log-level", "--name"] == sorted(
        line.split(":")[0] for line in found
    )
    assert "--log-level: 'loud' is not debug, info, warning or error" in found


def test_a_client_on_stdin_has_one_upstream_and_no_diagnostics_unless_asked(files: Files) -> None:
    """An editor starts one weir a server: they would fight for the port."""
    config = files.load(ONE, overrides=Overrides(stdio=True))
    assert (True, None) == (config.stdio, config.listen.diagnostics)
    asked = files.load(f"{ONE}listen: {{diagnostics: 127.0.0.1:5}}", overrides=Overrides(stdio=True))
    assert Address("127.0.0.1", 5) == asked.listen.diagnostics
    two = f"{ONE}  - {{name: b, command: [c]}}\n"
    assert [
        "--name: there are 2 upstreams, each with a name; leave --name out",
        "--stdio: serves one upstream, and there are 2; keep one, or leave --stdio out",
    ] == files.problems(two, overrides=Overrides(stdio=True, name="x"))


def test_stdio_is_how_weir_was_started_and_no_key(files: Files) -> None:
    """A file cannot say it."""
    assert ["weir.yaml:3: stdio: unknown key; did you mean 'slo'?"] == files.problems(f"{ONE}stdio: true")


def test_a_url_and_a_command_need_no_file() -> None:
    """The other two forms of `weir run`."""
    by_url = from_upstream("https://search.example/mcp?key=1").upstreams[0]
    assert ("search", "https://search.example/mcp?key=1", False) == (by_url.name, by_url.url, by_url.is_stdio)
    assert ("https://search.example", "/mcp", "key=1") == (by_url.shown_url, by_url.path, by_url.query)
    by_command = from_command(["npx", "-y", "@scope/server-files@1.2", "${HOME}"], Overrides(name="mine")).upstreams[0]
    assert ("mine", True, "npx") == (by_command.name, by_command.is_stdio, by_command.program)
    assert ("npx", "-y", "@scope/server-files@1.2", "${HOME}") == by_command.command


@pytest.mark.parametrize("url", ["http://127.0.0.1:9000", "http://127.0.0.1:9000/"])
def test_a_url_without_a_path_has_none(url: str) -> None:
    """It mirrors every path below it."""
    assert "" == from_upstream(url).upstreams[0].path


def test_what_is_wrong_with_a_flag_names_the_flag() -> None:
    """There is no line to name."""
    with pytest.raises(ConfigError, match=r"^--upstream: this is not an http or https URL"):
        from_upstream("localhost:9000")


def test_a_file_that_cannot_be_read_is_one_error(tmp_path: Path) -> None:
    """Absent, a folder, no text."""
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    for name, text in (("none", "No such file"), (".", "directory"), ("bytes", "not UTF-8")):
        with pytest.raises(ConfigError, match=text):
            load(str(tmp_path / name), {})


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["upstreams", "name", "url", "listen", "http", "policies", "timeout", "slo", "tools", "faults"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["upstreams", "listen", "policies", "slo", "faults", "x"]), _values, max_size=5))
def test_any_tree_is_a_configuration_or_a_configuration_error(
    tmp_path_factory: pytest.TempPathFactory, tree: object
) -> None:
    """Never another exception."""
    import json
    from contextlib import suppress

    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_text(json.dumps(tree))
    with suppress(ConfigError):
        load(str(file), {})
