"""Prints the tables. Run from the project's folder: python -m bench [--quick] [--only TABLE ...] [--no-peers]

Or compares two revisions: python -m bench --against REV [--pairs N]
"""

import argparse
import contextlib
import os
import platform
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from importlib.metadata import version

from bench import against, stand, targets
from bench.pace import FULL, QUICK
from bench.report import Table, keep
from bench.stand import ROOT, MissingError, Target, ground
from bench.tables import TABLES

LAST = ROOT / ".bench" / "last.json"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer, shorter rounds and no peers: some 90 s")
    parser.add_argument("--only", action="append", choices=list(TABLES), help="this table (may be given again)")
    parser.add_argument("--no-peers", action="store_true", help="leave the other MCP proxies out")
    parser.add_argument("--against", metavar="REV", help="compare HEAD with this revision; exit 1 when HEAD is slower")
    parser.add_argument("--pairs", type=int, default=against.PAIRS, help="of rounds, for --against")
    return parser.parse_args()


def versions() -> dict[str, str]:
    """What is measured, and on what."""
    about = {
        "when": time.strftime("%Y-%m-%d %H:%M:%S"),
        "machine": f"{os.cpu_count()} cores, {_processor()}, Linux {platform.release()}",
        "cores": f"what is measured has {sorted(stand.cores()[0])}, load, server and sink {sorted(stand.cores()[1])}",
        "python": platform.python_version(),
    }
    about |= {name: version(name) for name in ("mcp-weir", "uvicorn", "uvloop", "httptools", "msgspec")}
    for target in _others():
        with contextlib.suppress(OSError, MissingError):
            about.setdefault(target.name.split(",")[0], target.version())
    return about


def _others() -> Iterable[Target]:
    return (targets.NGINX, targets.ENVOY, *targets.HTTP_PEERS, *targets.STDIO_PEERS)


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="ascii") as lines:
        return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "?")


def main() -> int:
    """0 whatever the figures of the tables are: they inform. A comparison judges: 1 when HEAD is slower."""
    asked = _arguments()
    if asked.against:
        return against.compare(asked.against, max(2, asked.pairs))
    pace = QUICK if asked.quick else FULL
    pace = replace(pace, peers=pace.peers and not asked.no_peers)
    about = versions()
    print("\n".join(f"{name}: {text}" for name, text in about.items()))
    tables: list[Table] = []
    with ground() as land:
        for name in asked.only or TABLES:
            tables.append(TABLES[name](land, pace))
            print(tables[-1].text(), flush=True)
    keep(tables, about, LAST)
    print(f"\nkept in {LAST.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
