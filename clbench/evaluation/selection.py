"""Selection of the test samples that an evaluation looks at: those whose answer can have changed.

Between two updates hardly any prediction changes, so a sample that was right by far is right still. How far is far
enough is measured on the model as it learns. The *lead* of a sample is the score of its class minus the best other
active score, in the view where it is smallest in size; its answer changes where a lead passes through zero. Some fixed
samples, the *probes*, are looked at in every evaluation, and how far their leads have moved bounds the others':

    moved(s)  = max over evaluations s' in s..now, over probes and views of |lead(now) - lead(s')|
    factor    = 2 x max over the last 8 audits of max over samples n of |lead_n(now) - lead_n(s_n)| / moved(s_n)
    looked at = probes, and samples n with |lead_n(s_n)| <= factor x moved(s_n)

where s_n is the evaluation at which n was last looked at. The others keep their answer. At an audit
(`clbench.evaluation.audits`) everything is computed, the factor measured anew, and every answer that would have been
kept is compared: the first that differs ends selection for the rest of the run, and the record names the evaluations
in doubt. That no sample moves twice as far as any did before is likely and no proof.

A lead that was computed in reduced precision counts as smaller by what rounding can move it. Where most samples move,
selection pauses, so that it costs next to nothing.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
from torch import Tensor

from clbench.evaluation.competition import Judged

_SAFETY = 2.0
_MOST = 0.5
"""Share of samples beyond which looking at all of them is as cheap."""
_AHEAD = 1.25
"""How much farther probes are expected to have moved than before the last evaluation."""
_SMALLEST = 1e-6
"""Movement of leads that is rounding, relative to the largest lead."""
_COUNTS = ("selected", "full", "samples", "looked", "audited", "differing", "off", "_clean", "_pause", "_pause_next")
_HELD = ("_lead", "_small", "_at", "_exact", "_right", "_limit")


def probes_of(n: int) -> int:
    """Number of probes among n samples: a sixty-fourth, from 32 to 64."""
    return min(64, max(32, n // 64))


class Selection:
    """The samples of one model to look at.

    Attributes:
        selected, full: evaluations that looked at some samples, and at all.
        samples, looked: samples of the selecting evaluations, and those of them looked at, probes included.
        audited, differing: answers at audits that would have been kept, and those of them that were wrong.
        off: reason for looking at everything in the rest of the run; empty if there is none.
        suspect: first and last evaluation in doubt, counted from 1; None where there is none.
    """

    def __init__(self) -> None:
        self.selected = self.full = self.samples = self.looked = self.audited = self.differing = 0
        self.off = ""
        self.suspect: tuple[int, int] | None = None
        self._ratios: deque[float] = deque(maxlen=8)
        self._clean = self._pause = self._pause_next = 0
        self._key: Any = None
        self._resumed = False
        self._history: list[Tensor] = []
        self._lead = self._small = self._at = self._exact = self._right = self._limit = torch.zeros(0)

    def state_dict(self) -> dict[str, Any]:
        """All that later selections depend on."""
        return {
            **{name: getattr(self, name) for name in _COUNTS},
            **{name: getattr(self, name) for name in _HELD},
            "suspect": self.suspect,
            "ratios": list(self._ratios),
            "history": list(self._history),
            "key": None if self._key is None else self._key[1:],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state_dict` was taken."""
        for name in (*_COUNTS, *_HELD):
            setattr(self, name, state[name])
        self.suspect, self._history = state["suspect"], list(state["history"])
        self._ratios.clear()
        self._ratios.extend(state["ratios"])
        self._key, self._resumed = None if state["key"] is None else (None, *state["key"]), True

    def held_bytes(self) -> int:
        """Bytes of what is remembered of the samples and of the probes."""
        held: list[Tensor] = [*(getattr(self, name) for name in _HELD), *self._history]
        return sum(t.nbytes for t in held)

    def renew(self) -> None:
        """Makes the next evaluation look at everything: at the boundary of an experience much may change at once."""
        self._key, self._pause = None, 0

    def begin(self, model: Any, tasks: tuple[int, ...], outputs: tuple[int, ...]) -> bool:
        """Whether probes are to be looked at, for this evaluation or the next to select. False during a pause, and for
        good once an audit found a wrong answer.

        Args:
            model: the network; another one is another network.
            tasks: those evaluated.
            outputs: output units of the tasks seen.
        """
        if self.off or self._pause:
            self._pause = max(0, self._pause - 1)
            self._key = None
            self.full += 1
            return False
        key = model, tasks, outputs
        if self._resumed and self._key is not None and self._key[1:] == key[1:]:
            self._key = key
        self._resumed = False
        if self._key is None or self._key[0] is not model or self._key[1:] != key[1:]:
            self._key, self._history = key, []
        return True

    def moved(self, leads: Tensor) -> Tensor | None:
        """How far the probes have moved since each evaluation since the last full one, (s,), descending; None if there
        was none.

        Args:
            leads: the probes' now, (V, P).
        """
        before, self._history = self._history, [*self._history, leads]
        if not before:
            return None
        then = torch.stack(before)
        distance = (then - leads).abs_().masked_fill_(then == leads, 0.0)  # infinite ones too: of a task with one class
        distance = distance.nan_to_num_(float("inf")).flatten(1).amax(1)
        distance.clamp_(min=_SMALLEST * float(leads.abs().where(leads.isfinite(), 0).amax()))
        return distance.flip(0).cummax(0).values.flip(0)

    def likely(self, most: int) -> Tensor | None:
        """The samples that will be due if the probes have moved as far as before the last evaluation, at most so many,
        bool (n,); None where nothing is known. They can go through the network together with the probes."""
        if not len(self._limit) or not self._history:
            return None
        likely = self._small <= _AHEAD * self._limit[self._at.clamp(max=len(self._limit) - 1)]
        if int(likely.sum()) > most:
            likely = torch.zeros_like(likely)
            likely[self._small.topk(most, largest=False, sorted=False).indices] = True
        return likely

    def due(self, moved: Tensor | None) -> Tensor | None:
        """The samples to look at, bool (n,); None for all."""
        if moved is None or not self._ratios:
            return None
        self._limit = _SAFETY * max(self._ratios) * moved
        return ~(self._small > self._limit[self._at])

    def pays(self, due: int, n: int) -> bool:
        """Whether so few of n samples are due that looking at them alone is cheaper; a pause follows where they are
        not."""
        if due <= _MOST * n:
            self._pause_next = 0
            return True
        self._pause_next = min(64, max(4, 2 * self._pause_next))
        self._pause = self._pause_next
        return False

    def look(self, *verdicts: tuple[Tensor, Judged]) -> Tensor:
        """Takes the verdict on the probes and the samples that were due: their positions, int64 (m,), and the verdict.
        Returns `right` of all, (V, n), which the next call changes."""
        self.selected += 1
        self.samples += len(self._small)
        for rows, judged in verdicts:
            assert judged.lead is not None
            self.looked += len(rows)
            self._lead[:, rows] = judged.lead
            self._small[rows] = judged.lead.abs().amin(0)
            self._right[:, rows] = judged.right
            self._exact[rows] = True if judged.exact is None else judged.exact
            self._at[rows] = len(self._history) - 1
        return self._right

    def replace(self, judged: Judged, due: Tensor | None, moved: Tensor | None, number: int) -> None:
        """Takes the verdict on all samples, and compares it with what would have been kept.

        Args:
            judged: the verdict.
            due: as `due` returned it.
            moved: as `moved` returned it.
            number: of the evaluation, counted from 1.
        """
        assert judged.lead is not None
        self.full += 1
        exact = torch.ones(judged.right.shape[1], dtype=torch.bool) if judged.exact is None else judged.exact
        if moved is not None and bool(exact.all()):
            if due is not None:
                self._compare(judged.right, ~due, number)
            distance = (judged.lead - self._lead).abs().amax(0) / moved[self._at]
            distance = distance.where(self._exact & distance.isfinite(), 0)
            self._ratios.append(max(1.0, float(distance.amax())))
        self._clean = number
        self._lead, self._right, self._exact = judged.lead, judged.right.clone(), exact
        self._small = judged.lead.abs().amin(0)
        self._at = torch.zeros(judged.right.shape[1], dtype=torch.int64)
        self._history = self._history[-1:]

    def _compare(self, right: Tensor, kept: Tensor, number: int) -> None:
        self.audited += int(kept.sum())
        self.differing += int(((right != self._right).any(0) & kept).sum())
        if self.differing:
            self.off = "an audit found an answer that a full evaluation does not confirm"
            first, last = self._clean + 1, number - 1
            self.suspect = (first, last) if first <= last else None

    def report(self) -> dict[str, Any]:
        """Entry in the run's record."""
        return {
            "evaluations": {"selected": self.selected, "full": self.full},
            "samples": self.samples,
            "samples_looked_at": self.looked,
            "audited_answers": self.audited,
            "audited_differing": self.differing,
            "off": self.off or None,
            "suspect_evaluations": list(self.suspect) if self.suspect else None,
        }
