"""Run the Python SDK's conformance client against a server, with weir between them or not.

    client_through.py direct|http|stdio URL

The suite starts this as its client: it puts the URL of its mock server last and names the scenario in the environment.
"""

import importlib.util
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mcp import Client, StdioServerParameters

from conformance.suite import HOME
from support.weirs import weir_http, weir_stdio_argv

SDK_CLIENT = HOME / "src/mcp-2.3.0/.github/actions/conformance/client.py"


def sdk_client() -> ModuleType:
    """The SDK's own conformance client, from its source distribution."""
    spec = importlib.util.spec_from_file_location("sdk_conformance_client", SDK_CLIENT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def over_stdio(module: ModuleType, directory: Path) -> None:
    """Let every connection of the client be a weir on stdio before the URL that it meant to dial."""

    def connect(url: str, **options: Any) -> Client:
        argv = [str(part) for part in weir_stdio_argv(directory, {"url": url})]
        return Client(StdioServerParameters(command=argv[0], args=argv[1:]), **options)

    vars(module)["Client"] = connect


def main(pairing: str, url: str) -> None:
    """Run the scenario that the environment names."""
    module = sdk_client()
    with tempfile.TemporaryDirectory() as scratch:
        if pairing == "http":
            with weir_http(Path(scratch), {"url": url}) as weir:
                sys.argv = ["client", f"http://localhost:{weir.port}/mcp"]
                module.main()
            return
        if pairing == "stdio":
            over_stdio(module, Path(scratch))
        sys.argv = ["client", url]
        module.main()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
