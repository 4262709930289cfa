"""The command line. Exit codes: 0 a clean stop, 1 a failure while running, 2 a mistake in flags or configuration."""

import os
from typing import Annotated, NoReturn

import typer

from weir.app import run as running
from weir.app.version import installed_version
from weir.config.load import Overrides, from_command, from_upstream, load
from weir.config.model import Config
from weir.config.problems import ConfigError

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2

commands = typer.Typer(
    name="weir",
    help="A transparent, traced, resilient proxy for the Model Context Protocol.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

UpstreamFlag = Annotated[str | None, typer.Option("--upstream", metavar="URL", help="The MCP server to stand before.")]
ConfigFlag = Annotated[
    str | None, typer.Option("--config", metavar="FILE", help="weir's YAML, or an mcpServers or servers JSON file.")
]
CommandArgument = Annotated[
    list[str] | None, typer.Argument(metavar="-- COMMAND ARGS...", help="A stdio server to start.", show_default=False)
]


@commands.command()
def run(
    command: CommandArgument = None,
    upstream: UpstreamFlag = None,
    config: ConfigFlag = None,
    listen: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Where clients reach weir.")] = None,
    diagnostics: Annotated[str | None, typer.Option(metavar="HOST:PORT|off", help="The second port.")] = None,
    stdio: Annotated[bool, typer.Option("--stdio", help="Serve one client on stdin and stdout, not HTTP.")] = False,
    name: Annotated[str | None, typer.Option(help="The upstream's name in paths and labels.")] = None,
    log_level: Annotated[str | None, typer.Option(metavar="LEVEL", help="debug, info, warning or error.")] = None,
    log_format: Annotated[str | None, typer.Option(metavar="FORMAT", help="auto, text or json.")] = None,
) -> None:
    """Serve: `weir run --upstream URL`, `weir run --config FILE` or `weir run -- COMMAND ARGS...`."""
    overrides = Overrides(listen, diagnostics, name, log_level, log_format, stdio)
    raise typer.Exit(running.run(_configured(upstream, config, command or [], overrides)))


@commands.command()
def version() -> None:
    """Say which version this is."""
    typer.echo(f"weir {installed_version()}")


def _configured(upstream: str | None, file: str | None, command: list[str], overrides: Overrides) -> Config:
    """The configuration that the flags ask for; ends the process with 2 when there is none."""
    forms = [bool(upstream), bool(file), bool(command)]
    if sum(forms) != 1:
        _stop("say what to serve, in one of these forms: --upstream URL, --config FILE, or -- COMMAND ARGS...")
    try:
        if upstream:
            return from_upstream(upstream, overrides)
        return load(file, os.environ, overrides) if file else from_command(command, overrides)
    except ConfigError as error:
        _stop(str(error))


def _stop(text: str) -> NoReturn:
    typer.echo(text, err=True)
    raise typer.Exit(EXIT_USAGE)


def main() -> None:
    """The command `weir`."""
    commands()
