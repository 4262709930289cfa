"""The command line. Exit codes: 0 a clean stop, 1 a failure while running, 2 a mistake in flags or configuration."""

import os
import sys
from collections.abc import Callable, Mapping
from typing import Annotated, NoReturn, TypeVar

import typer

from weir.app import check as checking
from weir.app import fault_client as faults
from weir.app import run as running
from weir.app.version import installed_version
from weir.config import schema
from weir.config.load import Overrides, from_command, from_upstream, load
from weir.config.model import Config
from weir.config.problems import ConfigError

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2
T = TypeVar("T")

commands = typer.Typer(
    name="weir",
    help="A transparent, traced, resilient proxy for the Model Context Protocol.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

fault_commands = typer.Typer(help="Faults on purpose, where faults.allow is true.", no_args_is_help=True)
commands.add_typer(fault_commands, name="fault")

UpstreamFlag = Annotated[str | None, typer.Option("--upstream", metavar="URL", help="The MCP server to stand before.")]
ConfigFlag = Annotated[
    str | None, typer.Option("--config", metavar="FILE", help="weir's YAML, or an mcpServers or servers JSON file.")
]
DiagnosticsFlag = Annotated[
    str, typer.Option("--diagnostics", metavar="HOST:PORT", help="The diagnostics port of the weir to ask.")
]
TokenFlag = Annotated[
    str,
    typer.Option(
        "--token",
        metavar="TOKEN",
        envvar=faults.TOKEN_VARIABLE,
        show_default=False,
        help="Its listen.diagnostics_token; better in the variable, as others can read command lines.",
    ),
]


def _show_version(is_asked: bool) -> None:
    if is_asked:
        version()
        raise typer.Exit(EXIT_OK)


@commands.callback()
def _weir(
    _: Annotated[
        bool, typer.Option("--version", help="Say which version this is.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Exists for its option."""


@commands.command()
def run(
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- COMMAND ARGS", help="A stdio server to start.", show_default=False),
    ] = None,
    upstream: UpstreamFlag = None,
    config: ConfigFlag = None,
    listen: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Where clients reach weir.")] = None,
    diagnostics: Annotated[
        str | None, typer.Option(metavar="HOST:PORT|off", help="The second port; off by default with --stdio.")
    ] = None,
    stdio: Annotated[bool, typer.Option("--stdio", help="Serve one client on stdin and stdout, not HTTP.")] = False,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="The only upstream's name in paths.")] = None,
    log_level: Annotated[str | None, typer.Option(metavar="LEVEL", help="debug, info, warning or error.")] = None,
    log_format: Annotated[str | None, typer.Option(metavar="FORMAT", help="auto, text or json.")] = None,
) -> None:
    """Serve: --upstream URL, --config FILE, or -- COMMAND ARGS..."""
    overrides = Overrides(listen, diagnostics, name, log_level, log_format, stdio)
    forms = {"--upstream URL": upstream, "--config FILE": config, "-- COMMAND ARGS...": command}
    _only_one("say what to serve", forms)
    try:
        configured = _configured(upstream, config, command or [], overrides)
    except ConfigError as error:
        _mistaken(str(error))
    raise typer.Exit(running.run(configured))


@commands.command()
def check(
    file: Annotated[str | None, typer.Argument(metavar="FILE", help="As --config.", show_default=False)] = None,
    config: ConfigFlag = None,
    upstream: UpstreamFlag = None,
    print_schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of weir's YAML.")] = False,
) -> None:
    """Say what a configuration serves and what is wrong with it; exit 1 where there is an error, else 0."""
    if print_schema:
        typer.echo(schema.text(), nl=False)
        raise typer.Exit(EXIT_OK)
    _only_one("say what to check", {"FILE": file, "--config FILE": config, "--upstream URL": upstream})
    try:
        configured = _configured(upstream, file or config, [], Overrides())
    except ConfigError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(EXIT_FAILED) from None
    raise typer.Exit(_report(configured))


@commands.command()
def demo(
    seconds: Annotated[float, typer.Option(metavar="N", min=1, help="How long the demo's clients call.")] = 8.0,
) -> None:
    """Show weir at work: a server, weir before it, traffic, and what weir saw of it."""
    from weir.app import demo as showing  # noqa: PLC0415 - the SDK takes longer to import than all of weir

    raise typer.Exit(showing.run(seconds))


@fault_commands.command("add")
def fault_add(
    upstream: Annotated[str, typer.Option(metavar="NAME", help="Whose attempts it befalls.")],
    tool: Annotated[str | None, typer.Option(metavar="NAME", help="Only calls of this tool.")] = None,
    percent: Annotated[str | None, typer.Option(metavar="N", help="The share of attempts; 100 if left out.")] = None,
    expires: Annotated[str | None, typer.Option(metavar="DURATION", help="How long it lasts; 10m if left out.")] = None,
    latency: Annotated[str | None, typer.Option(metavar="DURATION", help="Answers come later by this.")] = None,
    jitter: Annotated[str | None, typer.Option(metavar="DURATION", help="Give or take this.")] = None,
    slow_stream: Annotated[str | None, typer.Option(metavar="DURATION", help="Each event comes later.")] = None,
    drop_stream: Annotated[str | None, typer.Option(metavar="N", help="A stream breaks after N events.")] = None,
    duplicate: Annotated[bool, typer.Option("--duplicate", help="Events come twice, and so do answers.")] = False,
    timeout: Annotated[bool, typer.Option("--timeout", help="No answer comes.")] = False,
    reset: Annotated[bool, typer.Option("--reset", help="The connection breaks before the answer.")] = False,
    status: Annotated[str | None, typer.Option(metavar="CODE", help="An HTTP error instead of an answer.")] = None,
    error: Annotated[str | None, typer.Option(metavar="CODE", help="A JSON-RPC error as the answer.")] = None,
    is_error: Annotated[bool, typer.Option("--is-error", help="A tool answers that it failed.")] = False,
    garbage: Annotated[bool, typer.Option("--garbage", help="What comes is no JSON.")] = False,
    diagnostics: DiagnosticsFlag = faults.DEFAULT_ADDRESS,
    token: TokenFlag = "",
) -> None:
    """Inject a fault for a while; prints it with its id."""
    given = {**locals()}
    port = faults.Port(given.pop("diagnostics"), given.pop("token"))
    typer.echo(_asked(lambda: faults.add(port, {key: value for key, value in given.items() if value})))


@fault_commands.command("list")
def fault_list(diagnostics: DiagnosticsFlag = faults.DEFAULT_ADDRESS, token: TokenFlag = "") -> None:
    """Say which faults are being injected, one a line."""
    for line in _asked(lambda: faults.show(faults.Port(diagnostics, token))):
        typer.echo(line)


@fault_commands.command("clear")
def fault_clear(
    fault_id: Annotated[
        str, typer.Argument(metavar="ID", help="As listed; all, if left out.", show_default=False)
    ] = "",
    diagnostics: DiagnosticsFlag = faults.DEFAULT_ADDRESS,
    token: TokenFlag = "",
) -> None:
    """End a fault, or all of them."""
    typer.echo(f"{_asked(lambda: faults.clear(faults.Port(diagnostics, token), fault_id))} cleared")


@commands.command()
def version() -> None:
    """Say which version this is."""
    typer.echo(f"weir {installed_version()}")


def _configured(upstream: str | None, file: str | None, command: list[str], overrides: Overrides) -> Config:
    """The configuration of the one form that was given. Raises ConfigError."""
    if upstream:
        return from_upstream(upstream, overrides)
    return load(file, os.environ, overrides) if file else from_command(command, overrides)


def _only_one(asked: str, forms: Mapping[str, object]) -> None:
    """Ends the process with a line on stderr unless exactly one of the forms was given."""
    given = [form for form, value in forms.items() if value]
    if not given:
        _mistaken(f"{asked}, in one of these forms: {', '.join(forms)}")
    if len(given) > 1:
        _mistaken(f"{asked} in one form; these are {len(given)}: {', '.join(given)}")


def _asked(ask: Callable[[], T]) -> T:
    """What a running weir answers; ends the process with a line on stderr when it cannot be."""
    try:
        return ask()
    except faults.FaultError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(EXIT_USAGE if error.is_mistake else EXIT_FAILED) from None


def _report(config: Config) -> int:
    found = checking.findings(config)
    for line in (*checking.served(config), *found):
        typer.echo(str(line))
    return EXIT_FAILED if any(finding.is_error for finding in found) else EXIT_OK


def _mistaken(text: str) -> NoReturn:
    typer.echo(text, err=True)
    raise typer.Exit(EXIT_USAGE)


def main() -> None:
    """The command `weir`."""
    sys.exit(commands())
