"""Verdicts at half the cost where the processor multiplies bfloat16 quickly, equal to those in float32.

A forward pass in reduced precision decides every sample whose lead (score of its class minus the best other active
score) is beyond what rounding can move; the others go through the network again in float32. Reduced is bfloat16, and
int8 in a first linear layer, whose inputs never change: they are rounded to 256 levels once, which pixels are exactly.
How far rounding moves two scores of a sample against each other is measured, not assumed: at an *audit*
(`clbench.evaluation.audits`) all samples take all ways. It records the float32 result.

    spread_n = max_j d_nj - min_j d_nj,   d = scores in reduced precision - scores in float32
    limit    = 2 x max over the last 8 audits of (max_n spread_n / largest |score|) x largest |score| now

An answer can differ only where the lead is below the sample's own spread. That no later spread is twice those seen is
likely and no proof, so answers beyond the limit are compared at every audit too: one that differs ends this way for the
rest of the run, and the run's record says how many were compared and how many differed.

On a GPU choosing the rows would make the device wait for the host at every evaluation, so there the plain way is taken.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from clbench.evaluation.competition import Judged
from clbench.evaluation.passes import Passes, Scored, Which, padded
from clbench.evaluation.twin import plain_attributes

_SAFETY = 2.0
_AT_ONCE = 500
"""Inputs rounded together; all at once would take their size several times over."""
_COUNTS = ("samples", "repeated", "compared", "differing", "off", "_clean", "_skip", "_skip_next")
_GIVE_UP = 0.5
"""Share of repeated samples beyond which float32 alone is cheaper."""


def fast_here() -> bool:
    """True if this processor multiplies bfloat16 faster than float32 (AVX-512 BF16 or AMX)."""
    cpu: Any = torch.cpu
    flags = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(cpu, flag, bool)() for flag in flags)


def _int8_is_fast() -> bool:
    flag: Any = getattr(torch.cpu, "_is_vnni_supported", None) or getattr(torch.cpu, "_is_avx512_vnni_supported", bool)
    return bool(flag()) and hasattr(torch, "_int_mm")


class _Int8Inputs:
    """Constant inputs in int8: x = step q + offset.

    Args:
        inputs: float32 (N, D).
    """

    def __init__(self, inputs: Tensor) -> None:
        low, high = (float(v) for v in inputs.aminmax())
        self.step = (high - low) / 255 or 1.0
        self.offset = low + 128 * self.step
        self.q = torch.empty(inputs.shape, dtype=torch.int8)
        for into, part in zip(torch.split(self.q, _AT_ONCE), torch.split(inputs, _AT_ONCE), strict=True):
            into.copy_(((part - self.offset) / self.step).round_().clamp_(-128, 127))


class _Int8Linear(nn.Module):
    """A linear layer of such inputs: W = scale round(W / scale).

    Args:
        linear: the layer, whose weights `refresh` reads.
        inputs: all its inputs.
    """

    def __init__(self, linear: nn.Linear, inputs: _Int8Inputs) -> None:
        super().__init__()
        self._linear = [linear]  # in a list, so that it is no part of this module
        self._step, self._offset = inputs.step, inputs.offset
        self.refresh()

    def refresh(self) -> None:
        """Quantizes the layer's current weights."""
        weight, bias = self._linear[0].weight.detach(), self._linear[0].bias
        scale = (weight.abs().amax(1) / 127).clamp_min(1e-30)
        rounded = (weight / scale[:, None]).round_()
        self._weight = rounded.to(torch.int8).t()
        self._scale = scale * self._step
        self._shift = rounded.sum(1) * scale * self._offset + (0.0 if bias is None else bias.detach())

    def forward(self, q: Tensor) -> Tensor:
        products = torch._int_mm(q, self._weight).to(torch.float32)
        return products.mul_(self._scale).add_(self._shift).to(torch.bfloat16)


class _Int8InBfloat16(nn.Module):
    """The same in bfloat16, which holds such inputs exactly: for few of them, where rounding the weights to int8 takes
    longer than it saves.

    Args:
        linear: the layer in bfloat16.
        inputs: all its inputs.
    """

    def __init__(self, linear: nn.Linear, inputs: _Int8Inputs) -> None:
        super().__init__()
        self._linear, self._step, self._offset = [linear], inputs.step, inputs.offset

    def refresh(self) -> None:
        """Follows the layer's current weights."""
        linear = self._linear[0]
        weight, bias = linear.weight, linear.bias
        shift = weight.sum(1, dtype=torch.float32) * self._offset
        self._weight = weight
        self._shift = ((shift if bias is None else shift + bias) / self._step).to(torch.bfloat16)

    def forward(self, q: Tensor) -> Tensor:
        return nn.functional.linear(q.to(torch.bfloat16), self._weight, self._shift).mul_(self._step)


class Reduced:
    """Verdicts on one model's predictions in reduced precision.

    Attributes:
        passes: evaluations by kind: "reduced", "audit" and "plain".
        samples, repeated: samples evaluated in reduced precision, and those of them repeated in float32.
        compared, differing: answers beyond the limit at audits, and those that float32 did not confirm.
        off: reason for float32 in the rest of the run; empty if there is none.
        suspect: first and last evaluation, counted from 1, between the last audit that confirmed all and the one that
            did not; None where no evaluation lies between them.
    """

    def __init__(self) -> None:
        self.passes = {"reduced": 0, "audit": 0, "plain": 0}
        self.samples = self.repeated = self.compared = self.differing = 0
        self.off = ""
        self.suspect: tuple[int, int] | None = None
        self._ratios: deque[float] = deque(maxlen=8)
        self._number = self._clean = self._clean_before = 0
        self._skip = self._skip_next = 0
        self._flags: Any = None
        self._mode = "plain"
        self._source: nn.Module | None = None
        self._low: nn.Module = nn.Identity()
        self._from: list[Tensor] = []
        self._to: list[Tensor] = []
        self._inputs: tuple[Tensor, Tensor] | None = None
        self._int8: tuple[Tensor, _Int8Inputs] | None = None  # inputs, and the same rounded
        self._bfloat16: tuple[Tensor, Tensor] | None = None
        self._first: _Int8Linear | None = None
        self._few: tuple[_Int8InBfloat16, nn.Module] | None = None
        self._resumed = False

    def state_dict(self) -> dict[str, Any]:
        """State that determines the numerics of later evaluations, and the counts of the report."""
        counts = {name: getattr(self, name) for name in _COUNTS}
        return {**counts, "passes": dict(self.passes), "ratios": list(self._ratios), "suspect": self.suspect}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state_dict` was taken; new copies then need no audit."""
        for name in _COUNTS:
            setattr(self, name, state[name])
        self.passes, self.suspect, self._resumed = dict(state["passes"]), state["suspect"], True
        self._ratios.clear()
        self._ratios.extend(state["ratios"])

    def held_bytes(self) -> int:
        """Bytes of inputs and weights in reduced precision."""
        return (0 if self._inputs is None else self._inputs[1].nbytes) + sum(t.nbytes for t in self._to)

    def renew(self) -> None:
        """Ends the pause that follows an evaluation in which most samples had to be repeated."""
        self._skip = 0

    def begin(self, model: nn.Module, inputs: Tensor, audit: bool, number: int, few: bool = False) -> str:
        """Selects the mode of an evaluation: "reduced", "audit" or "plain".

        Args:
            model: an ordinary model in evaluation mode (`clbench.evaluation.twin.is_ordinary`).
            inputs: all test inputs, float32 (N, ...); the same object as before unless they changed.
            audit: whether one is due; where the model has other tensors than before, it is in any case.
            number: of the evaluation, counted from 1.
            few: whether only some samples are evaluated.
        """
        self._number = number
        self._clean_before = self._clean  # an evaluation audits once for each run of consecutive tasks
        if self.off or self._skip:
            self._skip = max(0, self._skip - 1)
            return self._select("plain")
        flags = [(type(m), plain_attributes(m)) for m in model.modules()]
        changed = self._inputs is None or self._inputs[0] is not inputs or model is not self._source
        if changed or flags != self._flags:
            self._flags = flags
            audit |= not self._resumed
            if not self._copy(model, inputs):
                return self._select("plain")
        self._resumed = False
        torch._foreach_copy_(self._to, self._from)
        mode = "audit" if audit or not self._ratios else "reduced"
        for layer, used in ((self._first, not few), (self._few and self._few[0], few)):
            if layer is not None and (used or mode == "audit"):
                layer.refresh()
        return self._select(mode)

    def _select(self, mode: str) -> str:
        self.passes[mode] += 1
        self._mode = mode
        return mode

    def judge(self, which: Which, scored: Scored, judge: Callable[[Tensor, Which], Judged], passes: Passes) -> Judged:
        """The verdict on samples, whose answers are those of float32.

        Args:
            which: the samples.
            scored: samples -> scores in float32.
            judge: scores of samples -> the verdict.
            passes: over the test inputs.
        """
        try:
            few = isinstance(which, Tensor)
            low = self._scores(which, passes, few)
            both = self._mode == "audit" and self._few is not None and not few
            others = [self._scores(which, passes, True)] if both else []
        except Exception as error:  # a user-defined module that cannot compute in bfloat16
            self.off = f"the model cannot compute in reduced precision ({type(error).__name__})"
            return judge(scored(which), which)
        if self._mode == "audit":
            return self._audit([(scores, judge(scores, which)) for scores in (low, *others)], which, scored, judge)
        limit = self._limit(low)
        judged = judge(low, which)
        assert judged.lead is not None
        unsafe = ~_is_safe(low, judged, limit)
        rows = torch.nonzero(unsafe).flatten()
        if len(rows) > _GIVE_UP * len(low):
            if not isinstance(which, Tensor):
                self._skip_next = min(64, max(4, 2 * self._skip_next))
                self._skip = self._skip_next
            return judge(scored(which), which)
        self._skip_next = 0
        self.samples += len(low)
        self.repeated += len(rows)
        judged.broken = torch.zeros((), dtype=torch.bool)
        judged.exact = unsafe
        judged.lead.sub_(judged.lead.sign().mul_(limit))
        if len(rows):
            positions = which[rows] if isinstance(which, Tensor) else rows + which[0]
            again = judge(scored(positions), positions)
            assert again.lead is not None
            judged.right[:, rows], judged.lead[:, rows], judged.broken = again.right, again.lead, again.broken
        return judged

    def _scores(self, which: Which, passes: Passes, few: bool) -> Tensor:
        """Scores in reduced precision, (n, outputs), by the network for few samples or that for all."""
        assert self._inputs is not None
        network = self._low if self._few is None or not few else self._few[1]
        x = self._inputs[1]
        if isinstance(which, Tensor):
            n, parts = len(which), passes.cut(x.index_select(0, padded(which)))
        else:
            n = which[1] - which[0]
            parts = x[slice(*which)].tensor_split(passes.parts(n))
        return torch.cat([network(part) for part in parts]).to(torch.float32)[:n]

    def _limit(self, low: Tensor) -> float:
        return _SAFETY * max(self._ratios, default=float("inf")) * _scale(low)

    def _audit(
        self,
        ways: list[tuple[Tensor, Judged]],
        which: Which,
        scored: Scored,
        judge: Callable[[Tensor, Which], Judged],
    ) -> Judged:
        """Compares the ways of reduced precision, their scores and verdicts, with float32, whose verdict it returns."""
        exact = scored(which)
        confirmed = judge(exact, which)
        ratios = []
        for low, judged in ways:
            if not len(low):
                return confirmed
            moved = (low - exact).where(low.isfinite() & exact.isfinite(), 0)  # a masked output is -inf in both
            spread = float((moved.amax(1) - moved.amin(1)).max())
            if self._ratios:
                safe = _is_safe(low, judged, self._limit(low))
                self.compared += int(safe.sum())
                self.differing += int(((judged.right != confirmed.right).any(0) & safe).sum())
            if (scale := _scale(low)) > 0:
                ratios.append(spread / scale)
        if self.differing:
            self.off = "an audit found an answer that float32 does not confirm"
            first, last = self._clean_before + 1, self._number - 1
            self.suspect = (first, last) if first <= last else None
        self._clean = self._number
        if ratios:
            self._ratios.append(max(ratios))
        return confirmed

    def _copy(self, model: nn.Module, inputs: Tensor) -> bool:
        """Creates the copy in reduced precision, and its inputs. False if that is impossible."""
        self._source = model
        tensors = [t for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()]
        if any(t.dtype != torch.float32 for t in tensors):
            self.off = "the model is not in float32"
            return False
        low = copy.deepcopy(model).requires_grad_(False).to(torch.bfloat16)
        if any(t.ndim == 4 for t in tensors):
            low = low.to(memory_format=torch.channels_last)
        self._from = [t.detach() for t in tensors]
        self._to = [t for t in (*low.parameters(), *low.buffers()) if t.is_floating_point()]
        self._low, self._first, self._few = low, None, None
        flat = 0
        while isinstance(low, nn.Sequential) and flat < len(low) and isinstance(low[flat], nn.Flatten):
            flat += 1
        linear = model[flat] if isinstance(model, nn.Sequential) and flat < len(model) else None
        if type(linear) is nn.Linear and inputs[0].numel() == linear.in_features and _int8_is_fast():
            assert isinstance(low, nn.Sequential)
            rounded = low[flat]
            assert isinstance(rounded, nn.Linear)
            if self._int8 is None or self._int8[0] is not inputs:
                self._int8, self._bfloat16 = (inputs, _Int8Inputs(inputs.flatten(1))), None
            self._first = _Int8Linear(linear, self._int8[1])
            few = _Int8InBfloat16(rounded, self._int8[1])
            self._low = nn.Sequential(self._first, *list(low)[flat + 1 :])
            self._few = few, nn.Sequential(few, *list(low)[flat + 1 :])
            self._inputs = inputs, self._int8[1].q
        else:
            if self._bfloat16 is None or self._bfloat16[0] is not inputs:
                last = torch.channels_last if inputs.ndim == 4 else torch.preserve_format
                indices = any(vars(type(m)).get("takes_indices") is True for m in model.modules())
                rounded_inputs = inputs if indices else inputs.to(torch.bfloat16, memory_format=last)
                self._bfloat16, self._int8 = (inputs, rounded_inputs), None
            self._inputs = self._bfloat16
        return True

    def report(self) -> dict[str, Any]:
        """Entry in the run's record."""
        return {
            "evaluations": dict(self.passes),
            "samples_reduced": self.samples,
            "samples_repeated": self.repeated,
            "audited_predictions": self.compared,
            "audited_differing": self.differing,
            "off": self.off or None,
            "suspect_evaluations": list(self.suspect) if self.suspect else None,
        }


def _scale(scores: Tensor) -> float:
    """The largest finite score in size; 0 of none."""
    return float(scores.abs().where(scores.isfinite(), 0).max()) if scores.numel() else 0.0


def _is_safe(scores: Tensor, judged: Judged, limit: float) -> Tensor:
    """Whether rounding cannot change an answer, bool (n,); not where a score is NaN or has overflowed."""
    assert judged.lead is not None
    return (judged.lead.abs().amin(0) > limit) & (scores.amax(1) < float("inf"))
