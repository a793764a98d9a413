"""One model under evaluation, the strategy's or an average of its weights: the cheapest way to the full verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from clbench.evaluation.audits import Clock
from clbench.evaluation.competition import Judged
from clbench.evaluation.frozen_features import Front
from clbench.evaluation.inputs import TestInputs
from clbench.evaluation.kept_scores import KeptScores
from clbench.evaluation.linear_bound import LinearBound
from clbench.evaluation.passes import Passes, Scored, Which
from clbench.evaluation.reduced_precision import Reduced
from clbench.evaluation.selection import Selection, probes_of
from clbench.evaluation.weight_averages import Average

_FEATURE_BYTES = 2 << 30
"""Largest size of the kept features of a frozen feature extractor."""

_WORTH = 2e8
"""Multiplications of an evaluation from which on selection saves more than it costs."""

_FEW = 128
"""Selected samples that float32 looks at in no more time than it takes to round the weights."""

_TOGETHER = 256
"""Most samples that go through the network with the probes."""

Judge = Callable[[Tensor, Which], Judged]
"""Scores of samples -> the verdict on them."""


@dataclass
class EvaluatedModel:
    """One model, and what its evaluations remember.

    Attributes:
        suffix: of its views' names.
        average: of weights; None for the model in training.
        reduced, selection: None where they are not used.
    """

    suffix: str
    average: Average | None
    reduced: Reduced | None
    selection: Selection | None
    front: Front = field(default_factory=lambda: Front(_FEATURE_BYTES))
    clock: Clock = field(default_factory=Clock)
    kept: KeptScores = field(default_factory=KeptScores)
    bound: LinearBound = field(default_factory=LinearBound)

    def renew(self) -> None:
        """Call at the boundaries of experiences."""
        for part in (self.average, self.reduced, self.selection, self.bound, self.clock):
            if part is not None:
                part.renew()

    def scores(self, model: nn.Module, passes: Passes, span: tuple[int, int]) -> Tensor:
        """Scores in float32 of the samples of a span, by a model whose rows do not depend on each other, (n, outputs).
        Nothing is remembered."""
        return self._scored(model, passes)[2](span)

    def scores_at(self, model: nn.Module, passes: Passes, which: Tensor) -> Tensor:
        """The same of samples at some positions, in one pass."""
        passes.lay_out(model)
        inputs, network = self.front.split(model, passes.inputs, passes.parts)
        return passes.in_one(network, inputs, which)

    def _scored(self, model: nn.Module, passes: Passes) -> tuple[nn.Module, TestInputs, Scored]:
        passes.lay_out(model)
        inputs, network = self.front.split(model, passes.inputs, passes.parts)
        return network, inputs, lambda which: passes.scores(network, inputs, which)

    def judge(
        self,
        model: nn.Module,
        passes: Passes,
        spans: list[tuple[int, int]],
        key: tuple[tuple[int, ...], tuple[int, ...]],
        judge: Judge,
        targets: Tensor,
        taken: Callable[[tuple[int, int], Tensor], None] | None = None,
    ) -> list[Judged]:
        """The verdict on samples, by a model whose rows do not depend on each other.

        Args:
            model: the network, in evaluation mode.
            passes: over the test inputs.
            spans: the samples: first and one past the last.
            key: the tasks evaluated, and the outputs seen: a verdict depends on them.
            judge: see there; with leads.
            targets: output unit of every sample, int64 (N,).
            taken: called with each span and its scores in float32, at a boundary of experiences alone, where they are
                all computed.

        Returns:
            One for each span.
        """
        network, inputs, scored = self._scored(model, passes)
        boundary, n = self.clock.since == 0, sum(b - a for a, b in spans)
        audit = self.clock.tick()
        if not boundary:
            self.kept.end()
        elif inputs.on_cpu:  # elsewhere a kernel may be chosen by the number of rows
            self.kept.begin(network, inputs)
            least = passes.rows_alike(network, inputs)
            scored = partial(self.kept.of, compute=scored, least=least)
        if taken is not None:
            scored = _telling(scored, taken)
        selection = self.selection if n * passes.work > _WORTH else None
        if selection is not None and self.bound.begin(network, inputs, spans, key, targets):
            return self._within_bound(spans, scored, judge)
        moved = due = None
        if selection is not None and selection.begin(network, *key):
            probes, likely = _spread(n), None if audit else selection.likely(_TOGETHER)
            first = probes
            if likely is not None:
                likely[probes] = True
                first = torch.nonzero(likely).flatten()
            which = _positions(spans, first)
            judged = judge(scored(which), which)
            assert judged.lead is not None
            moved = selection.moved(
                judged.lead if likely is None else judged.lead[:, torch.searchsorted(first, probes)]
            )
            due = selection.due(moved)
            if not audit and due is not None:
                rest = due.clone()
                rest[first] = False
                rows = torch.nonzero(rest).flatten()
                if selection.pays(len(first) + len(rows), n):
                    verdicts = [(first, judged)]
                    if len(rows):
                        which = _positions(spans, rows)
                        verdicts.append((rows, self._some(which, network, inputs, passes, scored, judge)))
                    if not any(bool(verdict.broken) for _, verdict in verdicts):
                        right = selection.look(*verdicts)
                        return _apart(spans, Judged(right, None, judged.broken, judged.width))
        else:
            selection = None
        mode = self._begin(network, inputs, passes, audit)
        of_spans = [self._one(mode, span, passes, scored, judge) for span in spans]
        if selection is not None:
            selection.replace(_together(of_spans), due, moved, self.clock.number)
        return of_spans

    def _within_bound(self, spans: list[tuple[int, int]], scored: Scored, judge: Judge) -> list[Judged]:
        """The verdict on samples, on those alone whose answer can have changed."""
        due = self.bound.due()
        if due is not None:
            which = _positions(spans, due)
            judged = judge(scored(which), which) if len(due) else None
            if judged is None or not bool(judged.broken):
                return _apart(spans, self.bound.look(due, judged))
        of_spans = [judge(scored(span), span) for span in spans]
        self.bound.refer(_together(of_spans))
        return of_spans

    def _begin(self, network: nn.Module, inputs: TestInputs, passes: Passes, audit: bool, few: bool = False) -> str:
        if self.reduced is None or not passes.largest or inputs.ready is None:
            return "plain"
        return self.reduced.begin(network, inputs.ready, audit, self.clock.number, few)

    def _one(self, mode: str, which: Which, passes: Passes, scored: Scored, judge: Judge) -> Judged:
        if self.reduced is None or mode == "plain":
            return judge(scored(which), which)
        return self.reduced.judge(which, scored, judge, passes)

    def _some(
        self, which: Tensor, network: nn.Module, inputs: TestInputs, passes: Passes, scored: Scored, judge: Judge
    ) -> Judged:
        """The verdict on selected samples."""
        mode = self._begin(network, inputs, passes, False, True) if len(which) > _FEW else "plain"
        return self._one(mode, which, passes, scored, judge)


def _telling(scored: Scored, taken: Callable[[tuple[int, int], Tensor], None]) -> Scored:
    """The same, with the scores of spans told."""

    def told(which: Which) -> Tensor:
        scores = scored(which)
        if not isinstance(which, Tensor):
            taken(which, scores)
        return scores

    return told


def _spread(n: int) -> Tensor:
    """Positions of the probes among n samples, at equal distances: tasks and classes, which lie together, have their
    share."""
    count = min(n, probes_of(n))
    return ((torch.arange(count) * 2 + 1) * n) // (2 * count)


def _positions(spans: list[tuple[int, int]], rows: Tensor) -> Tensor:
    """Positions among all samples of those that have some positions among the evaluated ones, both ascending."""
    if len(spans) == 1:
        return rows + spans[0][0]
    ends = torch.tensor([b - a for a, b in spans]).cumsum(0)
    shift = torch.tensor([a for a, _ in spans]) - torch.cat([torch.zeros(1, dtype=torch.int64), ends[:-1]])
    return rows + shift[torch.searchsorted(ends, rows, right=True)]


def _apart(spans: list[tuple[int, int]], judged: Judged) -> list[Judged]:
    """The verdict on each span of that on all."""
    right = torch.split(judged.right, [b - a for a, b in spans], 1)
    return [Judged(part, None, judged.broken, judged.width) for part in right]


def _together(verdicts: list[Judged]) -> Judged:
    """The verdict on all spans."""
    if len(verdicts) == 1:
        return verdicts[0]
    exact = [v.exact if v.exact is not None else torch.ones(v.right.shape[1], dtype=torch.bool) for v in verdicts]
    return Judged(
        torch.cat([v.right for v in verdicts], 1),
        torch.cat([v.lead for v in verdicts if v.lead is not None], 1),
        torch.stack([v.broken for v in verdicts]).any(),
        verdicts[0].width,
        torch.cat(exact),
    )
