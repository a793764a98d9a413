"""Published numbers, run again: `make reproduce`. What is run and what was published: strategies/published.yaml.

Each row is run with several seeds, one thread a run, two runs side by side; runs that exist are not run again, and an
interrupted one goes on. The values are written to results/reproduction.csv, the table into strategies/README.md.

A row *agrees* where the 95 % interval of our mean (Student's t over seeds) and that of the published one overlap; the
published one is that of its printed error, or of its last printed digit where there is none. That rule was fixed before
the rows were run. Few seeds make wide intervals: they can refute, hardly confirm.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from pages import Line, Place, interval, read, write

from clbench.config import strict_yaml
from clbench.formatting import telling_places
from clbench.metrics import METRICS
from clbench.reports import statistics
from clbench.resolve import make_run
from clbench.run_config import RunConfig

ROOT = Path(__file__).resolve().parent.parent.parent
ROWS = ROOT / "strategies" / "published.yaml"
VALUES = ROOT / "results" / "reproduction.csv"
TABLE = Place(
    ROOT / "strategies" / "README.md",
    "<!-- reproduction: written by make reproduce -->",
    "<!-- end of reproduction -->",
)
COLUMNS = ["row", "seed", "value", "run_id", "weights_sha256", "failure"]
MANY = 20
LEAST = 3
"""Seeds below which there is no verdict: the interval of two says nothing."""


@dataclass(frozen=True)
class Row:
    """One published number and how to come to ours.

    Attributes:
        name: unique.
        run: arguments of `clbench run`, without seeds; evaluated around experiences only unless it says otherwise.
        minus: of a run whose value is subtracted, seed by seed; empty for none.
        metric: in the view that is the stream's own.
        published: in percent or percentage points.
        error: what is printed beside it: {sem: ...}, {sd: ..., n: ...} or {} for nothing.
        digits: decimals it was printed with.
        source: where.
        sure: how it is known: `code and table`, `table`, `transcribed` (by others, from the paper).
        note: what differs from the source, or why it does not come out.
        seeds: run with so many even where more are asked for, because it takes hours; None for no limit.
    """

    name: str
    run: str
    published: float
    source: str
    sure: str
    metric: str = "average_accuracy"
    minus: str = ""
    error: dict[str, float] | None = None
    digits: int = 2
    note: str = ""
    seeds: int | None = None

    def half_width(self) -> float:
        """Of the published number's 95 % interval."""
        error = self.error or {}
        if "sem" in error:
            return 1.96 * error["sem"]
        if "sd" in error:
            n = int(error["n"])
            return statistics.t_quantile(n) * error["sd"] / math.sqrt(n)
        return 0.5 * 10.0**-self.digits


def rows() -> list[Row]:
    """The table of published numbers."""
    found = [Row(**content) for content in strict_yaml.parse_file(ROWS, str(ROWS))["rows"]]
    names = [row.name for row in found]
    assert len(set(names)) == len(names), "two rows of one name"
    assert all(row.metric in METRICS for row in found), "a metric that there is not"
    return found


def once(command: str, seed: int, out: Path, stop: list[bool]) -> dict[str, Any]:
    """One run by the command line: its metrics, ids and failure."""
    if stop:
        return {"failure": "interrupted"}
    program = [sys.executable, "-m", "clbench", "run"]
    flags = ["--seed", str(seed), "--threads", "1", "--device", "cpu", "--out", str(out), "--json", "--quiet"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*program, *_arguments(command), *flags], capture_output=True, text=True, env=environment, cwd=ROOT
    )
    if done.returncode == 2:  # no data, or a row that is no right command: nothing about the method
        raise SystemExit(f"clbench run {command}: {done.stderr.strip()}")
    if not done.stdout.startswith("{"):
        return {"failure": done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"status {done.returncode}"}
    record: dict[str, Any] = json.loads(done.stdout)
    record["failure"] = None if record["failure"] is None else record["failure"]["message"]
    return record


def planned(command: str, seed: int = 0) -> RunConfig:
    """The run that a row's command stands for.

    Raises:
        UserError: a mistake in the command.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("benchmark")
    parser.add_argument("--strategy")
    parser.add_argument("-o", action="append", dest="overrides")
    given = parser.parse_args(_arguments(command))
    return make_run(given.benchmark, strategy=given.strategy, overrides=given.overrides, seed=seed, threads=1)


def _arguments(command: str) -> list[str]:
    name, *rest = shlex.split(command)
    sparse = [] if any(one.startswith("evaluation") for one in rest) else ["-o", "evaluation.every=0"]
    return [name, *sparse, *rest]


def value_of(record: dict[str, Any], metric: str) -> float | None:
    """In percent, from the stream's own view, which comes first of class, task, domain."""
    views = record.get("metrics") or {}
    own: dict[str, Any] = next((views[view] for view in ("class", "domain", "task") if view in views), {})
    found = own.get(metric)
    return None if found is None else 100.0 * found


def measure(todo: list[tuple[Row, int]], jobs: int, out: Path) -> Iterator[Line]:
    """Runs what there is not; yields one line of the file of values for each row and seed, as they come."""
    begin, stop = time.monotonic(), list[bool]()
    # Rows may share a run: whoever comes second waits, and finds it done.
    turn = {(command, seed): Lock() for row, seed in todo for command in (row.run, row.minus)}

    def one_by_one(command: str, seed: int) -> dict[str, Any]:
        with turn[command, seed]:
            return once(command, seed, out, stop)

    def line(row: Row, seed: int) -> Line:
        one = one_by_one(row.run, seed)
        value = value_of(one, row.metric)
        failure = one.get("failure")
        if row.minus and not failure:
            other = one_by_one(row.minus, seed)
            failure, less = other.get("failure"), value_of(other, row.metric)
            value = None if value is None or less is None else value - less
        ids = {key: one.get(key) for key in ("run_id", "weights_sha256")}
        found = {"row": row.name, "seed": seed, "value": value, **ids, "failure": failure}
        return {name: "" if found[name] is None else str(found[name]) for name in COLUMNS}

    with ThreadPoolExecutor(jobs) as pool:
        running = {pool.submit(line, row, seed): (row, seed) for row, seed in todo}
        try:
            for n, future in enumerate(as_completed(running), 1):
                row, seed = running[future]
                found = future.result()
                shown = found["failure"] or (f"{float(found['value']):.2f}" if found["value"] else "undefined")
                left = (time.monotonic() - begin) / n * (len(todo) - n) / 60
                print(f"[{n}/{len(todo)}] {row.name}, seed {seed}: {shown}; about {left:.0f} min left", flush=True)
                yield found
        except (KeyboardInterrupt, SystemExit):
            stop.append(True)
            raise


# ------------------------------------------------------------------------------------------------ the table
def read_values() -> dict[tuple[str, int], Line]:
    """Measured values: (row, seed) -> line."""
    return {(line["row"], int(line["seed"])): line for line in read(VALUES)}


def write_values(values: dict[tuple[str, int], Line], order: list[str]) -> None:
    """In the order of the rows; those of rows that are no longer there go."""
    kept = sorted((order.index(name), seed) for name, seed in values if name in order)
    write(VALUES, COLUMNS, (values[order[at], seed] for at, seed in kept))


def verdict(row: Row, values: list[float]) -> str:
    """In words, by the rule above."""
    if not values:
        return "not run"
    mean, half = interval(values)
    apart = mean - row.published
    if len(values) < LEAST:
        return f"{len(values)} seed{'s' * (len(values) > 1)}: {apart:+.2f}"
    if abs(apart) <= half + row.half_width():
        return "agrees"
    places = telling_places((0.0, apart), "iterations")
    return f"**{'higher' if apart > 0 else 'lower'} by {abs(apart):.{places}f}**"


def table(wanted: list[Row], values: dict[tuple[str, int], Line]) -> str:
    """Markdown: a line for each row, then notes and commands."""
    lines = ["| | ours | seeds | published | source | verdict |", "|---|---|---|---|---|---|"]
    notes = []
    for row in wanted:
        lines_of = [line for (name, _), line in sorted(values.items()) if name == row.name]
        found = [float(line["value"]) for line in lines_of if line["value"]]
        failures = sorted({line["failure"] for line in lines_of if line["failure"]})
        ours = "-"
        if found:
            mean, half = interval(found)
            ours = f"{mean:.2f}" if len(found) < LEAST else f"{mean:.2f} ({mean - half:.2f} to {mean + half:.2f})"
        error = row.error or {}
        printed = f"{row.published:.{row.digits}f}" + (f" ± {error['sem']}" if "sem" in error else "")
        printed += f" ± {error['sd']} (sd)" if "sd" in error else ""
        mark = ""
        if row.note or failures:
            notes.append(" ".join([*([row.note] if row.note else []), *(f"Failed: {f}." for f in failures)]))
            mark = f" [{len(notes)}]"
        cells = [f"{row.name}{mark}", ours, str(len(found)), printed, f"{row.source}; {row.sure}", verdict(row, found)]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *(f"{i}. {note}" for i, note in enumerate(notes, 1)), ""]
    lines += ["<details><summary>The commands</summary>", ""]
    for row in wanted:
        lines.append(f"    clbench run {shlex.join(_arguments(row.run))}".replace("'", '"'))
        if row.minus:
            lines.append(f"    clbench run {shlex.join(_arguments(row.minus))}    # subtracted".replace("'", '"'))
    return "\n".join([*lines, "", "</details>"])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", help="rows whose names contain one of these; default: all")
    parser.add_argument("--seeds", type=int, default=5, help=f"seeds 0, 1, ... (default 5; the papers: up to {MANY})")
    parser.add_argument("--missing", action="store_true", help="only rows and seeds that have no line in the CSV")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs side by side (default: cores)")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "reproduction", help="where runs are kept")
    parser.add_argument("--table", action="store_true", help="run nothing; write the table of what was measured")
    options = parser.parse_args()
    everything = rows()
    wanted = [r for r in everything if not options.rows or any(text in r.name for text in options.rows)]
    if not wanted:
        parser.error(f"no row has that in its name. Allowed: {', '.join(r.name for r in everything)}")
    values, order = read_values(), [row.name for row in everything]
    if not options.table:
        todo = [(row, n) for n in range(options.seeds) for row in wanted if row.seeds is None or n < row.seeds]
        if options.missing:
            todo = [(row, n) for row, n in todo if (row.name, n) not in values]
        for found in measure(todo, options.jobs, options.out):
            values[found["row"], int(found["seed"])] = found
            write_values(values, order)
    write_values(values, order)
    TABLE.write(table(everything, values))


if __name__ == "__main__":
    main()
