"""Which weir this is."""

from importlib import metadata

DISTRIBUTION = "mcp-weir"


def installed_version() -> str:
    """The version of the installed distribution; `unknown` when weir runs from a bare tree."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "unknown"
