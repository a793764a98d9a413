"""The search for hyper-parameters: every combination, or Optuna's TPE sampler.

A search depends on the results of its trials alone, not on time: resumed, it asks for the same trials, which then
exist.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any

from clbench import registry
from clbench.config.study import Range, TuningConfig
from clbench.errors import UserError
from clbench.measures import MEASURES, primary_view
from clbench.metrics import Metric
from clbench.metrics.field_names import defined
from clbench.reports.leaderboard import ranked_by
from clbench.results.record import Record
from clbench.run_config import RunConfig
from clbench.studies.study import Study, dotted, spaces, with_values
from clbench.summation import mean

Trial = tuple[dict[str, Any], dict[str, Any]]
"""A strategy's mapping, and its selected values."""


def search(study: Study, stream: int, strategy: int) -> Search:
    """The search for one strategy on one stream.

    Raises:
        UserError: Optuna is not installed.
    """
    settings = study.config.tuning
    assert settings is not None
    kind = Search if settings.search == "grid" else OptunaSearch
    return kind(study, settings, stream, strategy)


def metric_of(study: Study, run: RunConfig) -> Metric:
    """The metric by which combinations are selected on the stream of a run.

    Raises:
        UserError: one of counts for a regression, or the other way about.
    """
    assert study.config.tuning is not None
    stream = run.benchmark.stream
    view: str = stream.setting
    if run.benchmark.training.loss in MEASURES:  # of classes, or of a regression
        data = registry.datasets().outline(stream.data, size=stream.size, **stream.reading)
        view = primary_view(view, run.watch.measures, data.train_target is not None)
    return defined(study.config.tuning.metric or ranked_by(view), view, f"{study.source}: tuning.metric")


class Search:
    """Every combination, at once.

    Attributes:
        stream, strategy: numbers in the study's lists.
        results: mean value of each trial so far, as `Metric.compared` takes values, None where a run of it failed; with
            its mapping and combination.
        tried: number of different ones.
        failed: number of failed runs.
        updates, wall_s: of all runs, each counted once.
        trial: one of the runs.
    """

    def __init__(self, study: Study, settings: TuningConfig, stream: int, strategy: int) -> None:
        self._study, self._settings = study, settings
        self.stream, self.strategy = stream, strategy
        self._metric: Metric | None = None
        entry = study.config.streams[stream]
        on = entry if isinstance(entry, str) else entry["name"]
        self.label = f"{on}{study.where(stream)} {study.names[strategy]}"
        self.results: list[tuple[Trial, float | None]] = []
        self.failed, self.updates, self.wall_s = 0, 0, 0.0
        self.trial: RunConfig | None = None
        self._asked: list[Trial] = []
        self._counted: dict[str, str] = {}
        self._reasons: list[str] = []

    @property
    def metric(self) -> Metric:
        """The metric by which is selected, of the stream's view.

        Raises:
            UserError: the view has not the metric of the study.
        """
        if self._metric is None:
            [first, *_] = self._study.trials(self.stream, self.strategy, *next(iter(self.some())))
            self._metric = metric_of(self._study, first.run)
        return self._metric

    def some(self) -> Iterable[Trial]:
        """Representative combinations, for the check for mistakes."""
        return self._study.combinations(self.strategy)

    def ask(self) -> list[Trial]:
        """The next trials; none at the end."""
        if self.results or self._asked:
            return []
        self._asked = self._study.combinations(self.strategy)
        return self._asked

    @property
    def tried(self) -> int:
        return len(set(self._counted.values()))

    @property
    def later(self) -> int:
        """Number of trials that depend on the current ones."""
        return 0

    def tell(self, trial: Trial, records: list[Record], run: RunConfig) -> None:
        """Reports a trial: the records of its runs, seed by seed."""
        values = list[float | None]()
        for record in records:
            if record.run_id not in self._counted:
                self._counted[record.run_id] = record.config_hash
                if record.costs is not None:  # null where it could not even begin
                    self.updates += record.costs.iterations or 0
                    self.wall_s += record.costs.wall_s
                self.failed += record.status == "failed"
            if record.status == "failed" and record.failure is not None:
                self._reasons.append(record.failure.message)
            score = record.scores.get(self.metric.name)
            value = None if score is None else score.value
            values.append(None if value is None else self.metric.compared(value))
        known = [v for v in values if v is not None]
        self.results.append((trial, mean(known) if len(known) == len(values) else None))
        self.trial = self.trial or run

    def best(self) -> Trial | None:
        """The trial with the best mean, the first of equals; None if all failed."""
        worth = self.metric.worth
        known = [(worth(value), trial) for trial, value in self.results if value is not None]
        if not known:
            return None
        most = max(value for value, _ in known)
        return next(trial for value, trial in known if value == most)

    def reason(self) -> str:
        """Reasons of failed trials."""
        return "; ".join(dict.fromkeys(self._reasons)) or f"{self.metric.name} is undefined there"


class OptunaSearch(Search):
    """Optuna's TPE sampler with a seed: sequential trials, each reported before the next is asked."""

    def __init__(self, study: Study, settings: TuningConfig, stream: int, strategy: int) -> None:
        super().__init__(study, settings, stream, strategy)
        try:
            optuna: Any = importlib.import_module("optuna")
        except ImportError as error:
            raise UserError(
                f"{study.source}: tuning.search: optuna cannot be imported ({error}); pip install 'clbench[optuna]'."
            ) from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._given = study.strategies[strategy]
        direction = "maximize" if self.metric.better == "higher" else "minimize"
        self._optuna = optuna.create_study(direction=direction, sampler=optuna.samplers.TPESampler(seed=0))
        self._failed_state = optuna.trial.TrialState.FAIL
        self._open: Any = None

    def some(self) -> Iterable[Trial]:
        """The ends of ranges, and the first and last values of lists."""
        for end in (0, -1):
            chosen = {path: self._end(choices, end) for path, choices in spaces(self._given).items()}
            yield self._made(chosen)

    @staticmethod
    def _end(choices: Any, end: int) -> Any:
        if isinstance(choices, list):
            return choices[end]
        bounds = Range.model_validate(choices)
        return bounds.min if end == 0 else bounds.max

    def _made(self, chosen: dict[tuple[str, ...], Any]) -> Trial:
        return with_values(self._given, chosen), {dotted(path): value for path, value in chosen.items()}

    def ask(self) -> list[Trial]:
        """See `Search`."""
        assert self._settings.trials is not None
        if len(self.results) >= self._settings.trials:
            return []
        self._open = self._optuna.ask()
        chosen = {path: self._suggest(dotted(path), choices) for path, choices in spaces(self._given).items()}
        self._asked = [self._made(chosen)]
        return self._asked

    def _suggest(self, name: str, choices: Any) -> Any:
        if isinstance(choices, list):
            return choices[self._open.suggest_categorical(name, list(range(len(choices))))]
        bounds = Range.model_validate(choices)
        if bounds.steps is not None:
            values = bounds.values()
            return values[self._open.suggest_int(name, 0, len(values) - 1)]
        log = bounds.scale == "log"
        if bounds.whole:
            return self._open.suggest_int(name, bounds.min, bounds.max, log=log)
        return float(f"{self._open.suggest_float(name, bounds.min, bounds.max, log=log):.6g}")

    @property
    def later(self) -> int:
        assert self._settings.trials is not None
        return max(0, self._settings.trials - len(self.results) - 1)

    def tell(self, trial: Trial, records: list[Record], run: RunConfig) -> None:
        """See `Search`."""
        super().tell(trial, records, run)
        value = self.results[-1][1]
        if value is None:
            self._optuna.tell(self._open, state=self._failed_state)
        else:
            self._optuna.tell(self._open, value)
