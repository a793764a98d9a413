"""Batches for hosted Avalanche strategies: one gather and one transform each, in the order of Avalanche's loaders.

All of Avalanche's loaders end in PyTorch's `DataLoader` over a tree of concatenations and subsets. Where the leaves of
that tree are samples of ours and nothing on the way changes a sample, the tree is read once into index arrays, and
the loader, with its own sampler, fetches whole batches by them. Everything else is loaded as it always was.
"""

from __future__ import annotations

import bisect
import contextlib
import copy
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from operator import length_hint
from typing import Any

import numpy as np
import torch
from avalanche.benchmarks.utils import AvalancheDataset, ConstantSequence, data_loader
from avalanche.benchmarks.utils.data import _FlatDataWithTransform
from avalanche.benchmarks.utils.flat_data import FlatData, LazyIndices
from avalanche.benchmarks.utils.transform_groups import EmptyTransformGroups, TransformGroups
from avalanche.training.utils import cycle
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset, default_collate

from clbench.avalanche.tasks import TargetTasks
from clbench.errors import RunFailed

Fetch = Callable[[Tensor, Tensor | int, bool], Tensor]
"""Rows, int64 (N,), the task of all or of each, on the device, and whether others would be augmented but these are not,
to inputs (N, ...) there."""


class Inputs:
    """Samples of one part of a data set.

    Batches are computed on demand. Single samples, for loaders that read them one by one, are inputs on the host, each
    computed once for each task: Avalanche's loaders (which pin memory) and its buffers (which mix them with copies)
    expect them there. Experiences that repeat a sample share its input. Augmented, a single sample is computed at each
    access, in `eval()` data too.

    Args:
        fetch: makes them.
        rows: number of rows.
        device: where they are made.
        augmented: whether they come out differently each time.
        target_tasks: table in which the tasks of each batch's targets are recorded; None for none.
    """

    transient = ("_made",)

    def __init__(
        self,
        fetch: Fetch,
        rows: int,
        device: torch.device,
        augmented: bool = False,
        target_tasks: TargetTasks | None = None,
    ) -> None:
        self.fetch, self.device, self.augmented, self.target_tasks = fetch, device, augmented, target_tasks
        self._rows = rows
        self._made: dict[int, Tensor] = {}

    def prepare(self, places: NDArray[np.int64]) -> None:
        """Computes missing inputs; see `Rows`."""
        keys = (places[1] * self._rows + places[0]).tolist()
        absent = [i for i, key in enumerate(keys) if key not in self._made]
        if absent:
            row, task = torch.from_numpy(places[:2, absent]).to(self.device)
            x = self.fetch(row, task, False).cpu()
            self._made.update(zip((keys[i] for i in absent), x.unbind(), strict=True))

    def __call__(self, row: int, task: int) -> Tensor:
        return self._made[task * self._rows + row]


class Rows(Dataset[tuple[Tensor, int]]):
    """Samples of a stream, part after part; access to one computes all inputs of its part.

    Args:
        inputs: gives them.
        places: of each its row, its task and its target, int64 (3, N).
        starts: where parts begin, with N at the end.
    """

    transient = ("_ready",)

    def __init__(self, inputs: Inputs, places: NDArray[np.int64], starts: list[int]) -> None:
        self.inputs, self.places, self.starts = inputs, places, starts
        self._ready: set[int] = set()

    def __len__(self) -> int:
        return len(self.places[0])

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        if self.inputs.augmented:
            place = torch.from_numpy(self.places[:2, i : i + 1]).to(self.inputs.device)
            return self.inputs.fetch(place[0], place[1], False)[0].cpu(), int(self.places[2, i])
        part = bisect.bisect_right(self.starts, i) - 1
        if part not in self._ready:
            self.inputs.prepare(self.places[:, self.starts[part] : self.starts[part + 1]])
            self._ready.add(part)
        row, task, target = self.places[:, i].tolist()
        return self.inputs(row, task), target


@contextlib.contextmanager
def gathered() -> Iterator[None]:
    """Makes loaders over samples of ours gather whole batches, without FFCV, while the context lasts.

    Those that Avalanche's code reads, or that pin memory because their batches go to a GPU, give them on the device;
    user-defined code still gets them on the host.

    Raises:
        RunFailed: Avalanche's `cycle` asks a loader that has no batch, which it would do for ever.
    """
    begin = DataLoader.__iter__

    def begin_gathering(loader: DataLoader[Any]) -> Any:
        asking = sys._getframe(1)
        if asking.f_code is cycle.__code__ and length_hint(loader.batch_sampler, 1) == 0:
            wanted, available = loader.batch_size, length_hint(loader.dataset)
            raise RunFailed(
                "no_batch", f"Avalanche would wait for ever for a batch of {wanted} out of {available} samples"
            )
        batches = _batches(loader)
        if batches is None:
            return begin(loader)
        reader = asking.f_globals.get("__name__", "")
        batches.on_host = not (loader.pin_memory or reader.startswith(("avalanche.", "clbench.")))
        twin = copy.copy(loader)  # with the same samplers
        vars(twin).update(dataset=batches, collate_fn=_as_it_is, pin_memory=False)
        return begin(twin)

    supports_ffcv = data_loader.has_ffcv_support

    def supports(datasets: list[Any]) -> bool:
        return not any(map(_has_ours, datasets)) and bool(supports_ffcv(datasets))  # it looks at every sample each time

    DataLoader.__iter__ = begin_gathering  # type: ignore[method-assign]
    data_loader.has_ffcv_support = supports
    try:
        yield
    finally:
        DataLoader.__iter__ = begin  # type: ignore[method-assign]
        data_loader.has_ffcv_support = supports_ffcv


def _as_it_is(batch: list[Tensor]) -> list[Tensor]:
    return batch


class _Batches(Dataset[Any]):
    """Data of whole batches, as `default_collate` would form them from its samples.

    Args:
        whole: the data.
        inputs: gives inputs of the samples that are ours.
        table: int64 (3 + A, N): rows, tasks, targets, and those attributes that are whole numbers; -1 for a sample that
            is not ours.
        attributes: what our samples carry beside input and target: a function of the position, or None for the next
            row of the table.
        plain: whether they are not augmented, as in `eval()` data.
    """

    def __init__(
        self,
        whole: Any,
        inputs: Inputs,
        table: NDArray[np.int64],
        attributes: Sequence[Callable[[int], Any] | None],
        plain: bool,
    ) -> None:
        self._whole, self._inputs, self._table, self._attributes = whole, inputs, table, attributes
        tasks = np.unique(table[1][table[0] >= 0])
        self._task = int(tasks[0]) if len(tasks) == 1 else None
        self._mixed = bool((table[0] < 0).any())
        self._plain = plain
        self.on_host = False

    def __getitems__(self, index: list[int]) -> Any:
        batch = self._mixture(index) if self._mixed else self._ours(index)
        if self.on_host and isinstance(batch, list):
            batch = [part.cpu() if isinstance(part, Tensor) else part for part in batch]
        if self._inputs.target_tasks is not None and isinstance(batch[1], Tensor):
            self._inputs.target_tasks.record(batch[1], torch.from_numpy(self._table[1].take(index)))
        return batch

    def _ours(self, index: list[int]) -> list[Any]:
        row, task, y, *numbers = torch.from_numpy(self._table.take(index, 1)).to(self._inputs.device)
        batch = [self._inputs.fetch(row, task if self._task is None else self._task, self._plain), y]
        for of in self._attributes:
            values: Any = () if of is None else tuple(of(i) for i in index)  # as `default_collate` would find them
            batch.append(numbers.pop(0) if of is None else default_collate(values))
        return batch

    def _mixture(self, index: list[int]) -> Any:
        """Samples that are not ours are loaded one by one, in their order."""
        foreign = self._table[0].take(index) < 0
        if not foreign.any():
            return self._ours(index)
        loaded = {n: self._whole[index[n]] for n in np.flatnonzero(foreign).tolist()}
        theirs: Any = default_collate(list(loaded.values()))
        if foreign.all():
            return theirs
        ours = self._ours(np.array(index)[~foreign].tolist())
        if len(theirs) != len(ours) or not all(isinstance(part, Tensor) for part in (*theirs, *ours)):
            return default_collate([loaded[n] if n in loaded else self._whole[i] for n, i in enumerate(index)])
        place = torch.from_numpy(np.argsort(np.argsort(foreign, kind="stable"), kind="stable"))
        return [torch.cat([a, b.to(a.device)])[place.to(a.device)] for a, b in zip(ours, theirs, strict=True)]


# ------------------------------------------------------------------------------------------------ reading the tree
class _Unknown(Exception):
    """Values that `default_collate` may not turn into a row of int64."""


def _batches(loader: DataLoader[Any]) -> _Batches | None:
    """Whole-batch data of a loader; None where it loads nothing of ours, or in another way."""
    if type(loader) is not DataLoader or loader.num_workers or loader.batch_sampler is None:
        return None
    if loader.collate_fn is not default_collate:
        return None
    whole: Any = loader.dataset
    several: list[Any] = whole.datasets if type(whole) is ConcatDataset else [whole]
    if not any(map(_has_ours, several)):
        return None
    inputs: set[Inputs] = set()
    places = [_gather(part._flat_data if _is_ordinary(part) else part, partial(_places, inputs)) for part in several]
    carried = [
        [a for a in part._data_attributes.values() if a.use_in_getitem] if (where[0] >= 0).any() else None
        for part, where in zip(several, places, strict=True)
    ]
    names = {tuple(a.name for a in of) for of in carried if of is not None}
    groups = {part._flat_data._transform_groups.current_group == "eval" for part in several if _is_ordinary(part)}
    if len(inputs) != 1 or len(names) != 1 or len(groups) != 1:
        return None
    table, attributes = [np.concatenate(places, 1)], list[Callable[[int], Any] | None]()
    for k, _ in enumerate(names.pop()):
        nothing = (ConstantSequence(-1, len(part)) for part in several)
        same: list[Any] = [blank if of is None else of[k] for of, blank in zip(carried, nothing, strict=True)]
        try:
            table.append(np.concatenate([_gather(getattr(a, "data", a), _numbers) for a in same])[None])
            attributes.append(None)
        except _Unknown:
            attributes.append(ConcatDataset(same).__getitem__)
    return _Batches(whole, inputs.pop(), np.concatenate(table), attributes, groups.pop())


def _is_ordinary(data: Any) -> bool:
    kind = type(data)
    return (
        isinstance(data, AvalancheDataset)
        and kind.__getitem__ is AvalancheDataset.__getitem__
        and not hasattr(data, "__getitems__")
    )


def _gather(data: Any, leaf: Callable[[Any], NDArray[np.int64]], group: str | None = None) -> NDArray[np.int64]:
    """The leaves' values in the order of the whole, (..., N).

    Args:
        data: a tree of concatenations and subsets. A part of it in which samples are changed on the way, or that is
            no such tree, is a leaf.
        leaf: values of a leaf.
        group: the group of transforms in force; each tree's own without it.
    """
    if type(data) is _FlatDataWithTransform:
        group = data._transform_groups.current_group if group is None else group
        for transforms in (data._transform_groups, data._frozen_transform_groups):
            known = type(transforms) in (EmptyTransformGroups, TransformGroups)
            if not known or transforms.transform_groups.get(group) is not None:
                return leaf(data)
    elif type(data) is FlatData:
        group = None
    else:
        return leaf(data)
    parts = data._datasets
    if data._indices is None:
        return np.concatenate([_gather(part, leaf, group) for part in parts], -1) if parts else leaf(())
    index = _positions(data._indices)
    of = np.searchsorted(data._cumulative_sizes, index, side="right")
    values = leaf(range(len(index)))
    for n in np.unique(of).tolist():
        mask = of == n
        start = data._cumulative_sizes[n - 1] if n else 0
        values[..., mask] = _gather(parts[n], leaf, group)[..., index[mask] - start]
    return values


def _has_ours(data: Any) -> bool:
    """True if a data set or a part of it has samples of ours."""
    if isinstance(data, AvalancheDataset):
        return _is_ordinary(data) and _has_ours(data._flat_data)
    return any(map(_has_ours, data._datasets)) if isinstance(data, FlatData) else type(data) is Rows


def _positions(indices: Sequence[int]) -> NDArray[np.int64]:
    """Avalanche's indices are lists of numbers, of tensors without a dimension, or lazy; those of ours are ranges."""
    if isinstance(indices, range):
        return np.arange(indices.start, indices.stop, indices.step)
    if isinstance(indices, LazyIndices):
        indices._to_eager()
        eager = indices._eager_list
        if isinstance(eager, np.ndarray):
            return eager
    return np.fromiter(map(int, indices), np.int64, len(indices))


def _places(met: set[Inputs], leaf: Any) -> NDArray[np.int64]:
    if type(leaf) is not Rows:
        return np.full((3, len(leaf)), -1)
    met.add(leaf.inputs)
    return leaf.places


def _numbers(leaf: Any) -> NDArray[np.int64]:
    """Values that `default_collate` turns into int64."""
    if type(leaf) is ConstantSequence and type(leaf._constant_value) is int:
        return np.full(len(leaf), leaf._constant_value)
    if type(leaf) in (list, tuple, range) and all(type(v) is int for v in leaf):
        return np.array(leaf, np.int64)
    raise _Unknown
