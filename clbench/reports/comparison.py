"""Paired comparison of two strategies on the same streams, by seed: differences, intervals, and required seeds.

Only runs of the same stream are paired: one benchmark definition, and for each shared seed one instance of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from clbench.errors import UserError, shown, unknown
from clbench.formatting import UNITS, decimals, headed, number, scaled, telling_places
from clbench.metrics import Metric
from clbench.metrics.field_names import defined
from clbench.reports import statistics
from clbench.reports.columns import left_open, usual_metrics
from clbench.reports.rows import Row, groups, labelled
from clbench.reports.tables import CODES
from clbench.reports.tabular import aligned, csv_bytes, plain
from clbench.results.record import Record, collect
from clbench.summation import ROUNDING

NOT_SHOWN = "no difference shown"

HEADINGS = (
    "benchmark", "metric", "pairs", "A", "B", "A - B", "95 % interval", "P(A better)", "A better in", "seeds needed",
    "verdict",
)  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """Two rows of one benchmark, and their common seeds.

    Attributes:
        a, b: finished runs by seed.
        notes: further differences between the two than the strategy.
    """

    left: Row
    right: Row
    a: dict[int, Record]
    b: dict[int, Record]
    notes: tuple[str, ...]

    @property
    def seeds(self) -> list[int]:
        return sorted(self.a.keys() & self.b.keys())

    @property
    def view(self) -> str:
        """The primary view."""
        return self.left.view


@dataclass(frozen=True)
class Finding:
    """Result of a pair of rows in one metric.

    Attributes:
        a, b: values of the paired seeds, in their order, as `Metric.compared` takes them.
        difference: a - b.
        improvement: probability that A is better (`statistics.probability_of_improvement`, in the better direction).
        better, worse: seeds in which A is better, and in which it is worse; the rest are ties.
        needed: `statistics.seeds_needed` for the observed effect; None beyond the cap, and where there is no effect.
        verdict: in words.
    """

    pair: Pair
    metric: str
    a: tuple[float, ...]
    b: tuple[float, ...]
    difference: statistics.Difference
    improvement: float | None
    better: int
    worse: int
    needed: int | None
    verdict: str

    @property
    def definition(self) -> Metric:
        """The metric."""
        return defined(self.metric, self.pair.view, "compare")

    @property
    def means(self) -> list[float | None]:
        """Of the paired values of A and of B."""
        return [statistics.summary(side)["mean"] for side in (self.a, self.b)]


# ------------------------------------------------------------------------------------------------ which runs
def select(texts: Sequence[str], within: Path) -> tuple[list[list[Row]], list[str]]:
    """The rows selected by each text, and a sentence for each excluded file; a folder is read once.

    Args:
        texts: each a folder with runs at or below it; `benchmark:strategy`, `:strategy` for every benchmark; or a
            prefix of the id of a row.
        within: folder of the rows.

    Raises:
        UserError: no such folder or row, or several rows of one board.
    """
    collected = cache(_rows)
    sides = [_select(text, within, collected) for text in texts]
    return [rows for rows, _ in sides], list(dict.fromkeys(problem for _, problems in sides for problem in problems))


Collected = tuple[list[Row], list[str]]


def _rows(folder: Path) -> Collected:
    """The rows of the runs below a folder, and a sentence for each excluded file."""
    records, problems = collect(folder)
    return [Row(id_, tuple(group)) for id_, group in groups(records)], problems


def _select(text: str, within: Path, collected: Callable[[Path], Collected]) -> Collected:
    path = Path(text)
    if path.is_dir():
        rows, problems = collected(path)
        if not rows:
            raise UserError(*(problems or [f"{text}: no run.json there or below."]))
    elif not within.is_dir():
        raise UserError(f"{within}: no such folder; --in names the folder of the rows.")
    else:
        known, problems = collected(within)
        rows = _named(text, known, within)
    boards: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        boards.setdefault((row.definition, row.data), []).append(row)
    for several in boards.values():
        if len(several) > 1:
            names = "; ".join(labelled(several))
            raise UserError(f"{text}: {len(several)} rows of {several[0].benchmark}; name one of them: {names}.")
    return rows, problems


def _named(text: str, known: Sequence[Row], within: Path) -> list[Row]:
    benchmark, colon, strategy = text.partition(":")
    if colon:
        rows = [row for row in known if row.strategy == strategy and benchmark in ("", row.benchmark)]
        if not rows:
            names = {f"{row.benchmark if benchmark else ''}:{row.strategy}" for row in known}
            raise UserError(f"{within}: {unknown('row', text, names)}")
        return rows
    rows = [row for row in known if text and row.id.startswith(text)]
    if not rows:
        raise UserError(f"{text}: no such folder, no benchmark:strategy, and no row in {within} with this prefix.")
    if len(rows) > 1:
        raise UserError(f"{text}: the ids of {len(rows)} rows have this prefix: {', '.join(row.id for row in rows)}.")
    return rows


# ------------------------------------------------------------------------------------------------ pairs
def pairs(left: Sequence[Row], right: Sequence[Row]) -> tuple[list[Pair], list[str]]:
    """Pairs of rows of one benchmark definition, and a sentence for each row without a partner.

    Raises:
        UserError: there is no pair, or one with different streams; the sentence names the difference.
    """
    matched: list[Pair] = []
    alone: list[str] = []
    for row, name in zip(left, labelled(left), strict=True):
        defined = [other for other in right if other.definition == row.definition]
        partners = [other for other in defined if other.data == row.data] or defined
        matched += [_pair(row, other) for other in partners]
        if not partners:
            alone.append(f"only in A: {row.benchmark}, {name}")
    definitions = {row.definition for row in left}
    alone += [
        f"only in B: {row.benchmark}, {name}"
        for row, name in zip(right, labelled(right), strict=True)
        if row.definition not in definitions
    ]
    if not matched:
        same = [(a, b) for a in left for b in right if a.benchmark == b.benchmark]
        a, b = (same or [(left[0], right[0])])[0]
        raise UserError(f"A and B are not of one benchmark definition: {_differing(a.records[0], b.records[0])}.")
    return matched, alone


def _pair(left: Row, right: Row) -> Pair:
    a, b = left.completed(), right.completed()
    shared = sorted(a.keys() & b.keys())
    if not shared:
        has = [f"{side} has {_seeds(runs)}" for side, runs in (("A", a), ("B", b))]
        raise UserError(f"{left.benchmark}: no finished seed in common: {', '.join(has)}.")
    for seed in shared:
        one, two = a[seed].stream, b[seed].stream
        assert one is not None  # of completed runs
        assert two is not None
        if one.instance_hash != two.instance_hash:
            hashes = f"instances {one.instance_hash[:16]} and {two.instance_hash[:16]}"
            why = ""
            if one.data_sha256 != two.data_sha256:
                why = f": the data differ ({one.data_sha256[:16]} and {two.data_sha256[:16]})"
            elif a[seed].config.seeds.stream != b[seed].config.seeds.stream:
                why = f": seeds.stream is {_of_stream(a[seed])} and {_of_stream(b[seed])}"
            raise UserError(f"{left.benchmark}: seed {seed} had another stream on each side, {hashes}{why}.")
    notes = []
    for key in ("seeds", "numerics"):
        one, two = (getattr(runs[shared[0]].config, key).model_dump() for runs in (a, b))
        notes += [f"{key}.{k} differs: {shown(one[k])} and {shown(two[k])}" for k in one if one[k] != two[k]]
    return Pair(left, right, a, b, tuple(notes))


def _of_stream(record: Record) -> str:
    return shown(record.config.seeds.stream)


def _seeds(runs: dict[int, Record]) -> str:
    return " ".join(map(str, sorted(runs))) or "none"


def _differing(one: Record, two: Record, most: int = 3) -> str:
    """The first keys in which the definitions of two benchmarks differ."""
    a, b = (dict(_flat(record.definition, ())) for record in (one, two))
    keys = [key for key in dict.fromkeys([*a, *b]) if a.get(key) != b.get(key)]
    parts = [f"{key} is {shown(a.get(key))} and {shown(b.get(key))}" for key in keys[:most]]
    parts += [f"{len(keys) - most} more"] if len(keys) > most else []
    return "; ".join(parts) or f"{one.benchmark} ({one.definition_hash[:16]}) and {two.definition_hash[:16]}"


def _flat(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flat(item, (*path, key))
    else:
        yield ".".join(path), value


# ------------------------------------------------------------------------------------------------ findings
def findings(pair: Pair, metrics: Sequence[str] | None = None) -> list[Finding]:
    """Results of a pair in some metrics of its primary view; default: its usual ones.

    Raises:
        UserError: a metric that the view has not.
    """
    return [_finding(pair, metric) for metric in metrics or usual_metrics(pair.view)]


def _finding(pair: Pair, metric: str) -> Finding:
    definition = defined(metric, pair.view, pair.left.benchmark)

    def value(record: Record) -> float | None:
        known = record.scores[metric].value if metric in record.scores else None
        return None if known is None else definition.compared(known)

    of_a, of_b = ({seed: value(runs[seed]) for seed in pair.seeds} for runs in (pair.a, pair.b))
    difference = statistics.difference(of_a, of_b)
    a, b = (tuple(v for s in difference.seeds if (v := of[s]) is not None) for of in (of_a, of_b))
    sign = 1.0 if definition.better == "higher" else -1.0
    gains = [sign * (x - y) for x, y in zip(a, b, strict=True)]
    verdict = NOT_SHOWN
    if difference.interval is None:
        verdict = "undefined" if not a else "one pair, no interval"
    elif difference.shown and difference.mean is not None:
        verdict = "A better" if sign * difference.mean > 0 else "B better"
    equal = difference.std == 0 and difference.mean != 0  # the same difference in every seed
    return Finding(
        pair,
        metric,
        a,
        b,
        difference,
        statistics.probability_of_improvement([sign * v for v in a], [sign * v for v in b]),
        sum(gain >= ROUNDING for gain in gains),
        sum(gain <= -ROUNDING for gain in gains),
        2 if equal else statistics.seeds_needed(difference.effect),
        verdict,
    )


def telling(finding: Finding) -> int:
    """Decimals with which the two means differ, and the difference and the ends of its interval differ from 0."""
    d, unit = finding.difference, finding.definition.unit
    together = [finding.means, *((0.0, value) for value in (d.mean, *(d.interval or ())))]
    places = 2  # more do not always tell more: 79.4046 and 79.4054 are 79.40 and 79.41, and both 79.405
    if unit not in UNITS:
        places = max([places, *(decimals(mean, unit) for mean in finding.means if mean)])
    while any(telling_places(pair, unit, places) > places for pair in together):
        places += 1
    return places


def to_text(findings: Sequence[Finding]) -> str:
    """For the terminal: the compared rows, then a line for each benchmark and metric."""
    lines = []
    for pair in {id(finding.pair): finding.pair for finding in findings}.values():
        star = "*" if any(r.modified for r in pair.left.records) else ""
        a, b = labelled([pair.left, pair.right])
        lines.append(f"{pair.left.benchmark}{star}: A is {a}; B is {b}")
        lines.append(f"  seeds in both: {' '.join(map(str, pair.seeds))}{_partnerless(pair)}")
        evaluation = pair.left.records[0].config.benchmark.evaluation
        of_pair = [finding for finding in findings if finding.pair is pair]
        undefined = [finding.metric for finding in of_pair if not finding.a]
        open_ = left_open([f.metric for f in of_pair], undefined, evaluation.every, evaluation.dense, pair.view)
        lines += [f"  {note}" for note in [*pair.notes, *open_]]
    rows: list[tuple[str, ...]] = [HEADINGS]
    for finding in findings:
        d, n = finding.difference, len(finding.a)
        of_both = finding.means
        unit, places = finding.definition.unit, telling(finding)
        signed = partial(_signed, unit=unit, places=places)
        improvement = finding.improvement
        chances = telling_places((0.0, 0.5, 1.0, improvement), "iterations")
        rows.append(
            (
                finding.pair.left.benchmark,
                headed(compared(finding.definition), unit),
                str(n),
                *("" if mean is None else number(mean, unit, places) for mean in of_both),
                "" if d.mean is None else signed(d.mean),
                "" if d.interval is None else " to ".join(map(signed, d.interval)),
                "" if improvement is None else f"{improvement:.{chances}f}",
                f"{finding.better} of {n}" if n else "",
                needed(finding),
                finding.verdict,
            )
        )
    if len({row[0] for row in rows[1:]}) == 1:
        rows = [row[1:] for row in rows]
    lines += ["", *aligned(rows), ""]
    lines += [
        "A and B: means over the paired seeds. A - B: paired by seed; Student t interval, of each metric by itself.",
        "verdict: better where the interval leaves out 0; all before rounding.",
        "P(A better): over all pairs of a value of A and one of B, ties half (Agarwal et al. 2021).",
        "seeds needed: for a power of 0.8 at 0.05, were the observed effect the true one.",
    ]
    if any(row.codes > 1 for finding in findings for row in (finding.pair.left, finding.pair.right)):
        lines.append(CODES)
    return "\n".join(map(plain, lines))


def compared(metric: Metric) -> str:
    """A metric's name; between bars where distances from 0 are compared."""
    return f"|{metric.name}|" if metric.better == "zero" else metric.name


def _signed(value: float, unit: str, places: int) -> str:
    sign = "-" if scaled(value, unit, places) < 0 else "+"
    return f"{sign}{number(abs(value), unit, places)}"


def _partnerless(pair: Pair) -> str:
    parts = []
    for side, mine, other, row in (("A", pair.a, pair.b, pair.right), ("B", pair.b, pair.a, pair.left)):
        lacking = sorted(mine.keys() - other.keys())
        if lacking:
            status = {record.seed: record.status for record in row.records}
            seeds = (f"{seed}{f' (there {status[seed]})' if seed in status else ''}" for seed in lacking)
            parts.append(f"; without a partner, only in {side}: {' '.join(seeds)}")
    return "".join(parts)


def needed(finding: Finding) -> str:
    """The number of seeds needed, as text; empty where it is unknown."""
    if finding.needed is not None:
        return str(finding.needed)
    return f"over {statistics.MOST_SEEDS:,}" if finding.difference.std is not None else ""


def to_csv(findings: Sequence[Finding]) -> bytes:
    """`cells` as CSV, missing ones empty."""
    rows = cells(findings)
    return csv_bytes(list(rows[0]), (list(row.values()) for row in rows))


def cells(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """One row for each benchmark and metric: numbers unrounded, accuracies in [0, 1], None where undefined."""
    rows = []
    for finding in findings:
        pair, d = finding.pair, finding.difference
        first = pair.a[pair.seeds[0]]
        rows.append(
            {
                "benchmark": first.benchmark,
                "modified": first.modified,
                "definition_hash": first.definition_hash,
                "data_sha256": first.stream.data_sha256 if first.stream else None,
                "view": first.primary_view,
                "a_row_id": pair.left.id,
                "b_row_id": pair.right.id,
                "a_strategy": pair.left.strategy,
                "b_strategy": pair.right.strategy,
                "a_tuning_by": pair.left.tuned_by,
                "b_tuning_by": pair.right.tuned_by,
                "metric": compared(finding.definition),
                "unit": finding.definition.unit,
                "better": finding.definition.better,
                "pairs": len(finding.a),
                "seeds": " ".join(map(str, d.seeds)),
                **_side("a", finding.a),
                **_side("b", finding.b),
                "difference": d.mean,
                "difference_std": d.std,
                "difference_ci95_lo": d.interval[0] if d.interval else None,
                "difference_ci95_hi": d.interval[1] if d.interval else None,
                "effect_d_z": d.effect,
                "probability_of_improvement": finding.improvement,
                "a_better": finding.better,
                "b_better": finding.worse,
                "seeds_needed": finding.needed,
                "verdict": finding.verdict,
            }
        )
    return rows


def _side(name: str, values: Sequence[float]) -> dict[str, float | None]:
    low, high = statistics.interquartile_interval(values) or (None, None)
    iqm = statistics.interquartile_mean(values)
    mean = statistics.summary(values)["mean"]
    return {f"{name}_mean": mean, f"{name}_iqm": iqm, f"{name}_iqm_ci95_lo": low, f"{name}_iqm_ci95_hi": high}
