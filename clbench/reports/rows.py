"""Rows of a leaderboard: the runs that differ in their seed alone, and the names by which rows are told apart."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from clbench.errors import UserError, unknown
from clbench.labels import distinguished
from clbench.results.record import Record


def row_id(record: Record) -> str:
    """The row that a run belongs to: 16 hex digits of a SHA-256 over definition, data, strategy and configuration.

    A run that failed before it had its data has a separate id here; `table` adds it to the row of its configuration
    where there is just one.
    """
    return _hash(_key(record))


def _key(record: Record) -> tuple[str, str, str, str]:
    data = record.stream.data_sha256 if record.stream is not None else ""
    return record.definition_hash, data, record.config.strategy.name, record.config_hash


def _hash(key: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(["clbench row", *key]).encode()).hexdigest()[:16]


def groups(records: Iterable[Record]) -> list[tuple[str, list[Record]]]:
    """The rows of some run records: id, and runs by seed; in an order that does not depend on that of the records."""
    rows: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        rows.setdefault(_key(record), []).append(record)
    for key in [key for key in rows if not key[1]]:  # without data: is their row unambiguous?
        same = [other for other in rows if other[1] and other[:1] + other[2:] == key[:1] + key[2:]]
        if len(same) == 1:
            rows[same[0]] += rows.pop(key)

    def order(record: Record) -> tuple[int, str, str]:
        return record.seed, record.run_id, record.model_dump_json()

    return [(_hash(key), sorted(group, key=order)) for key, group in sorted(rows.items())]


def codes(runs: Iterable[Record]) -> int:
    """Number of different codes that made some runs.

    A run for which a module's source was not available equals no other; runs without a record of it are not counted.
    """
    made_by = [(r.run_id, r.provenance.code_sha256, r.provenance.user_code or {}) for r in runs]
    return len({run_id if None in user.values() else code for run_id, code, user in made_by if code or user})


def marked(name: str, access: str | None, tuned_by: str | None, codes: int, made_by: str | None = None) -> str:
    """A name with its warnings.

    >>> marked("joint", "stream", None, 1), marked("er", "experience", "test", 2)
    ('joint (not continual)', 'er (tuned on its own test stream, 2 codes)')
    >>> marked("mine", None, None, 1, made_by="script")
    'mine (script)'
    """
    marks = ["script"] if made_by == "script" else []
    marks += ["not continual"] if access in ("past", "stream") else []
    marks += ["tuned on its own test stream"] if tuned_by == "test" else []
    marks += [f"{codes} codes"] if codes > 1 else []
    return f"{name} ({', '.join(marks)})" if marks else name


def in_view(records: Sequence[Record], view: str, flag: str) -> list[Record]:
    """Records with another view as their primary one: those of the boards on which some run has it.

    Args:
        records: runs of any boards.
        view: name of a view.
        flag: where it was given, for the message.

    Raises:
        UserError: no run has it.
    """
    having = {record.definition_hash for record in records if view in record.views}
    if records and not having:
        known = {name for record in records for name in record.views}
        raise UserError(f"{flag}: {unknown('view', view, known)}")
    return [record.model_copy(update={"primary_view": view}) for record in records if record.definition_hash in having]


def view_of(records: Sequence[Record]) -> str:
    """The primary view of runs of one row; a run that failed before it had its data does not know its measure."""
    return next((record.primary_view for record in records if record.stream is not None), records[0].primary_view)


@dataclass(frozen=True)
class Row:
    """The runs of a leaderboard's row.

    Attributes:
        id: of the row.
        records: its runs, by seed.
    """

    id: str
    records: tuple[Record, ...]

    @property
    def benchmark(self) -> str:
        return self.records[0].benchmark

    @property
    def strategy(self) -> str:
        return self.records[0].config.strategy.name

    @property
    def definition(self) -> str:
        return self.records[0].definition_hash

    @property
    def data(self) -> str:
        return next((record.stream.data_sha256 for record in self.records if record.stream), "")

    @property
    def view(self) -> str:
        """The primary view."""
        return view_of(self.records)

    @property
    def tuned_by(self) -> str | None:
        return self.records[0].tuned_by

    @property
    def label(self) -> str:
        return self.called(self.strategy)

    def called(self, name: str) -> str:
        """A name for the row with its id and its warnings."""
        access = next((record.access for record in self.records if record.access), None)
        return marked(f"{name}, row {self.id[:8]}", access, self.tuned_by, self.codes, self.records[0].made_by)

    @property
    def codes(self) -> int:
        return codes(record for record in self.records if record.status == "completed")

    def completed(self) -> dict[int, Record]:
        """Finished runs by seed.

        Raises:
            UserError: a seed has two, of different instances.
        """
        runs: dict[int, Record] = {}
        for record in self.records:
            if record.status == "completed":
                if record.seed in runs:
                    raise UserError(f"{self.label}: seed {record.seed} occurs with several instances of the stream.")
                runs[record.seed] = record
        return runs


def labelled(rows: Sequence[Row]) -> list[str]:
    """A name for each row, with what tells it from the others of its strategy."""
    names = distinguished((row.strategy, row.records[0].settings) for row in rows)
    return [row.called(name) for row, name in zip(rows, names, strict=True)]


# ------------------------------------------------------------------------------------------------ rows that users name
@dataclass(frozen=True)
class Called:
    """A row by the words with which a user names it.

    Attributes:
        id: of the row.
        strategy: its name.
        label: the strategy with what tells it from other rows of that strategy.
    """

    id: str
    strategy: str
    label: str


def matching(text: str, rows: Sequence[Called], flag: str) -> list[int]:
    """The rows that a text names: by the label, the strategy, or at least four digits at the start of the row's id.

    Args:
        text: of the user.
        rows: those there are.
        flag: where the text was given, for the message.

    Returns:
        Their indices, ascending.

    Raises:
        UserError: it names none.

    >>> rows = [Called("c0ffee11", "er", "er (memory 50)"), Called("deadbeef", "er", "er (memory 90)")]
    >>> matching("er", rows, "--order"), matching("er (memory 90)", rows, "--order"), matching("c0ff", rows, "--order")
    ([0, 1], [1], [0])
    """
    for names in ("label", "strategy"):
        exact = [i for i, row in enumerate(rows) if getattr(row, names) == text]
        if exact:
            return exact
    begun = [i for i, row in enumerate(rows) if len(text) >= 4 and row.id.startswith(text)]
    if not begun:
        known = {row.label for row in rows} | {row.strategy for row in rows}
        raise UserError(f"{flag}: {unknown('row', text, known, 'or the start of a row id')}")
    return begun


def listed(text: str) -> list[str]:
    """Names with commas between them; a comma in brackets is part of a name.

    >>> listed("naive, er (memory 5, lr 1),ewc")
    ['naive', 'er (memory 5, lr 1)', 'ewc']
    """
    return [name for part in re.split(r",(?![^(]*\))", text) if (name := part.strip())]


def renamed(renames: Iterable[str], rows: Sequence[Called], flag: str) -> dict[int, str]:
    """New labels by the index of their row.

    Args:
        renames: texts `ROW=LABEL`.
        rows: those there are.
        flag: where the texts were given, for messages.

    Raises:
        UserError: a text of another form, one that names no row, or rows that are told apart by their labels alone.

    >>> rows = [Called("c0ffee11", "er", "er (memory 50)"), Called("deadbeef", "er", "er (memory 90)")]
    >>> renamed(["er (memory 90)=Ours"], rows, "--label")
    {1: 'Ours'}
    """
    out: dict[int, str] = {}
    for text in renames:
        name, equals, label = text.partition("=")
        if not equals or not name.strip() or not label.strip():
            raise UserError(f"{flag}: got '{text}'. Allowed: a row and its new name, like er=Ours.")
        indices = matching(name.strip(), rows, flag)
        several = {rows[i].label for i in indices}
        if len(several) > 1:
            raise UserError(
                f"{flag}: '{name}' names {len(several)} rows; name one of them: {', '.join(sorted(several))}."
            )
        out |= dict.fromkeys(indices, label.strip())
    return out


def placed(order: Sequence[str], rows: Sequence[Called], flag: str) -> list[int]:
    """Indices of all rows: those named first, in the order of the names, then the others as they are.

    >>> placed(["b"], [Called("", name, name) for name in "abc"], "--order")
    [1, 0, 2]
    """
    first = [i for name in order for i in matching(name, rows, flag)]
    return list(dict.fromkeys([*first, *range(len(rows))]))
