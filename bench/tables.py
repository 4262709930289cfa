"""The tables that issue 2 asks for, each a function from the ground and the pace to a table."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from bench import memory, stand, targets
from bench.load import MODERN
from bench.pace import Pace
from bench.report import Goal, Table
from bench.rounds import Row, added, ratio, rounds
from bench.stand import Ground, Target

CONNECTIONS = 16


def _cells(row: Row, base: Row | None) -> list[str]:
    times = f"{ratio(row, base):.2f}×" if base is not None and base.runs else "—"
    figures = [f"{row.median(name):.2f}" for name in ("p50", "p95", "p99")]
    return [row.target.name, f"{row.median('cpu_us'):.1f}", times, f"{row.median('per_second'):,.0f}", *figures]


_COLUMNS = ("", "CPU µs/call", "÷ nginx", "calls/s", "p50 ms", "p95 ms", "p99 ms")


def _fill(table: Table, rows: Sequence[Row], base: Row | None) -> None:
    for row in rows:
        if row.runs:
            table.rows.append(_cells(row, base))
            if row.doubt():
                table.notes.append(f"{row.target.name}: {row.doubt()}")
        else:
            table.missing[row.target.name] = row.missing


def _row(rows: Sequence[Row], target: Target) -> Row:
    return next(row for row in rows if row.target is target)


def _goal(table: Table, name: str, limit: float, row: Row, base: Row) -> None:
    if row.runs and base.runs:
        table.goals.append(Goal(name, limit, ratio(row, base), "×", row.doubt()))


def http(land: Ground, pace: Pace) -> Table:
    """HTTP→HTTP, small JSON reply."""
    title = f"HTTP→HTTP, tools/call, small JSON reply, {CONNECTIONS} connections"
    table = Table("http", title, _COLUMNS)
    limited = [(targets.WEIR, 3.5), (targets.WEIR_10, 5.0), (targets.WEIR_100, 9.0)]
    limited += [(targets.pure(target), limit) for target, limit in limited]
    others = (targets.DIRECT, targets.NGINX, targets.ENVOY, targets.FLOOR)
    all_of_them = (*others, *(target for target, _ in limited), targets.WEIR_BARE, targets.WEIR_POLICED)
    rows = rounds(all_of_them, land, times=pace.times, seconds=pace.seconds, connections=CONNECTIONS)
    if pace.peers:
        more = {"seconds": pace.seconds, "connections": CONNECTIONS, "warm_up_calls": 64}
        rows += rounds(targets.HTTP_PEERS, land, times=2, **more)
    base = _row(rows, targets.NGINX)
    _fill(table, rows, base)
    for target, limit in limited:
        _goal(table, f"{target.name} ÷ nginx", limit, _row(rows, target), base)
    weir, policed = _row(rows, targets.WEIR), _row(rows, targets.WEIR_POLICED)
    _goal(table, f"{targets.WEIR.name} ÷ envoy (aim)", 1.0, weir, _row(rows, targets.ENVOY))
    if weir.runs and policed.runs:
        table.goals.append(Goal("every policy on adds", 25.0, added(policed, weir, "cpu_us"), " µs", policed.doubt()))
    return table


def sse(land: Ground, pace: Pace) -> Table:
    """The same call answered as an SSE stream of one event, beside JSON through the same proxy."""
    table = Table("sse", f"HTTP→HTTP, the reply as SSE (one event), {CONNECTIONS} connections", _COLUMNS)
    pairs = [(target, _with_tool(target, "sse")) for target in (targets.NGINX, targets.ENVOY, targets.WEIR)]
    all_of_them = [target for pair in pairs for target in pair]
    rows = rounds(all_of_them, land, times=pace.times, seconds=pace.seconds, connections=CONNECTIONS)
    _fill(table, rows, _row(rows, targets.NGINX))
    for plain, streamed in pairs:
        limit = 1.3 if plain is targets.WEIR else 0.0
        json_row, sse_row = _row(rows, plain), _row(rows, streamed)
        if limit:
            _goal(table, "weir, SSE ÷ its own JSON", limit, sse_row, json_row)
        elif json_row.runs and sse_row.runs:
            table.notes.append(f"{plain.name}: SSE ÷ its own JSON {ratio(sse_row, json_row):.2f}×")
    return table


def _with_tool(target: Target, tool: str) -> Target:
    return replace(target, name=f"{target.name}, {tool.upper()}", plan=target.plan | {"tool": tool})


def latency(land: Ground, pace: Pace) -> Table:
    """One connection: what a proxy adds to a call's time over going direct."""
    columns = ("", "p50 ms", "p99 ms", "added p50 ms", "added p99 ms", "calls/s")
    table = Table("latency", "Latency at 1 connection, small JSON reply", columns)
    traced = replace(targets.WEIR_100, sampled=0.0)  # no waiting for its spans: CPU is not looked at here
    all_of_them = (targets.DIRECT, targets.NGINX, targets.ENVOY, targets.WEIR, traced)
    with stand.cores_shared(land):
        rows = rounds(all_of_them, land, times=pace.times + 1, seconds=pace.seconds / 2, connections=1)
    base = _row(rows, targets.DIRECT)
    for row in rows:
        if not row.runs:
            table.missing[row.target.name] = row.missing
            continue
        more = [added(row, base, name) for name in ("p50", "p99")]
        cells = [row.median("p50"), row.median("p99"), *more]
        table.rows.append([row.target.name, *(f"{cell:.3f}" for cell in cells), f"{row.median('per_second'):,.0f}"])
        if row.target is targets.WEIR:
            table.goals.append(Goal("added at p50", 0.5, more[0], " ms", row.doubt()))
            table.goals.append(Goal("added at p99", 2.0, more[1], " ms", row.doubt()))
    return table


def stdio(land: Ground, pace: Pace) -> Table:
    """HTTP→stdio: the proxy's own CPU, and that of the server it runs."""
    columns = ("", "own CPU µs/call", "server µs/call", "calls/s", "p50 ms", "p99 ms")
    table = Table("stdio", f"HTTP→stdio, tools/call, {CONNECTIONS} connections, one session", columns)
    modern = replace(targets.WEIR_STDIO, name=f"{targets.WEIR_STDIO.name}, {MODERN}", plan={"revision": MODERN})
    rows = rounds((targets.WEIR_STDIO, modern), land, times=pace.times, seconds=pace.seconds, connections=CONNECTIONS)
    if pace.peers:
        rows += rounds(targets.STDIO_PEERS, land, times=2, seconds=pace.seconds, connections=CONNECTIONS)
    for row in rows:
        if not row.runs:
            table.missing[row.target.name] = row.missing
            continue
        cells = [f"{row.median(name):.1f}" for name in ("cpu_us", "server_cpu_us")]
        times = [f"{row.median(name):.2f}" for name in ("p50", "p99")]
        table.rows.append([row.target.name, *cells, f"{row.median('per_second'):,.0f}", *times])
        if row.target in (targets.WEIR_STDIO, modern):
            table.goals.append(Goal(row.target.name, 150.0, row.median("cpu_us"), " µs", row.doubt()))
    return table


TABLES: dict[str, Callable[[Ground, Pace], Table]] = {
    "http": http,
    "sse": sse,
    "latency": latency,
    "stdio": stdio,
    "memory": memory.memory,
}
