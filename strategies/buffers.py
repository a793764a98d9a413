"""Replay memories. They hold rows of the training set, never copies of samples.

Every sample met gets a random 64-bit priority, and a group keeps its `quota` smallest. That is a uniform sample
without replacement of all that the group has met (bottom-k sampling, Cohen and Kaplan 2007), the same distribution
as Vitter's reservoir, and it stays one when the quota shrinks: the largest priorities leave.
"""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clbench.chance import Generator


class Buffer:
    """A memory of `capacity` samples, uniform over each group.

    Args:
        generator: source of priorities and of draws.
        capacity: samples in all, >= 1. Groups share it equally; the first ones take what does not divide.
        per_group: samples for each group instead, >= 1; the memory then grows with the groups.

    Groups are whatever the caller says: one for all (a reservoir over the stream), or one a class (class-balanced).
    """

    def __init__(self, generator: Generator, *, capacity: int | None = None, per_group: int | None = None) -> None:
        if (capacity is None) == (per_group is None):
            raise ValueError("give either capacity or per_group")
        self._generator = generator
        self._capacity = capacity
        self._per_group = per_group
        self._heaps: dict[int, list[tuple[int, int]]] = {}  # group -> heap of (-priority, slot)
        room = capacity or 16
        self._index = np.zeros(room, np.int64)
        self._task = np.zeros(room, np.int64)
        self._occupied = np.zeros(room, np.int64)  # the first `_count` entries are the slots in use
        self._place = np.zeros(room, np.int64)  # slot -> where it stands in `_occupied`
        self._free = list(range(room - 1, -1, -1))
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def index_of(self) -> NDArray[np.int64]:
        """The row that each slot holds; a slot is where a sample stays as long as it is held."""
        return self._index

    @property
    def task_of(self) -> NDArray[np.int64]:
        """The task of each slot's row."""
        return self._task

    @property
    def index(self) -> NDArray[np.int64]:
        """Rows held, in no order that means anything, (len,)."""
        return self._index[self._occupied[: self._count]]

    @property
    def task(self) -> NDArray[np.int64]:
        """The task of each row held, (len,)."""
        return self._task[self._occupied[: self._count]]

    def quota(self, group: int) -> int:
        """Samples that a group may hold now."""
        if self._per_group is not None:
            return self._per_group
        assert self._capacity is not None
        share, rest = divmod(self._capacity, len(self._heaps))
        return share + (list(self._heaps).index(group) < rest if rest else 0)

    def add(
        self, index: NDArray[np.int64], task: NDArray[np.int64], group: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Offers samples; some are kept.

        Args:
            index: rows of the training set, (N,).
            task: the task of each, (N,).
            group: the group of each, (N,).

        Returns:
            positions among those offered, and the slot of each, of the samples that were kept, (M,) each. What a
            method keeps beside a sample (its logits) it keeps by slot.
        """
        held: dict[int, int] = {}  # slot -> position
        priority = self._generator.raw(len(index))
        for g in np.unique(group).tolist():
            if g not in self._heaps:
                self._heaps[g] = []
                for other in self._heaps if self._capacity is not None else ():
                    self._shrink(other)
            heap, quota = self._heaps[g], self.quota(g)
            mine = np.flatnonzero(group == g)
            if len(heap) >= quota:
                if not quota:
                    continue
                mine = mine[priority[mine] < np.uint64(-heap[0][0])]
            for i in mine.tolist():
                key = -int(priority[i])
                if len(heap) < quota:
                    slot = self._take()
                    heapq.heappush(heap, (key, slot))
                elif key > heap[0][0]:
                    slot = heapq.heapreplace(heap, (key, heap[0][1]))[1]
                else:
                    continue
                self._index[slot], self._task[slot] = index[i], task[i]
                held[slot] = i
        return np.fromiter(held.values(), np.int64, len(held)), np.fromiter(held, np.int64, len(held))

    def sample(self, n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """min(n, len) different samples, uniformly: rows and tasks. The cost does not depend on the buffer's size."""
        slots = self.slots(n)
        return self._index[slots], self._task[slots]

    def slots(self, n: int) -> NDArray[np.int64]:
        """The slots of min(n, len) different samples, uniformly."""
        return self._occupied[self._generator.sample(self._count, min(n, self._count))]

    def _shrink(self, group: int) -> None:
        heap, quota = self._heaps[group], self.quota(group)
        while len(heap) > quota:
            slot = heapq.heappop(heap)[1]
            last, place = self._occupied[self._count - 1], self._place[slot]
            self._occupied[place], self._place[last] = last, place
            self._count -= 1
            self._free.append(slot)

    def _take(self) -> int:
        if not self._free:  # only a memory with a quota per group grows
            room = len(self._index)
            for name in ("_index", "_task", "_occupied", "_place"):
                array = getattr(self, name)
                setattr(self, name, np.concatenate([array, np.zeros_like(array)]))
            self._free = list(range(2 * room - 1, room - 1, -1))
        slot = self._free.pop()
        self._occupied[self._count], self._place[slot] = slot, self._count
        self._count += 1
        return slot

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue, the generator apart."""
        return {
            "groups": list(self._heaps),
            "priorities": [np.array([-k for k, _ in heap], np.uint64) for heap in self._heaps.values()],
            "slots": [np.array([s for _, s in heap], np.int64) for heap in self._heaps.values()],
            "index": self._index.copy(),
            "task": self._task.copy(),
            "occupied": self._occupied[: self._count].copy(),
            "free": np.array(self._free, np.int64),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state_dict` was taken."""
        heaps = zip(state["groups"], state["priorities"], state["slots"], strict=True)
        self._heaps = {g: [(-k, s) for k, s in zip(p.tolist(), at.tolist(), strict=True)] for g, p, at in heaps}
        self._index, self._task = state["index"].copy(), state["task"].copy()
        self._occupied, self._place = np.zeros_like(self._index), np.zeros_like(self._index)
        self._count = len(state["occupied"])
        self._occupied[: self._count] = state["occupied"]
        self._place[self._occupied[: self._count]] = np.arange(self._count)
        self._free = state["free"].tolist()
