"""Replay memories, of rows of the training set, never of copies of samples.

    random  each group keeps a uniform sample without replacement of all offers (Vitter 1985, algorithm R): the
            n-th sample offered to a group that holds its `size` replaces a random one with probability size / n.
            Where the group shrinks, random ones leave, and the sample stays uniform
    last    each group keeps the last samples offered to it (the ring buffer of Chaudhry et al. 2019, "On Tiny
            Episodic Memories", algorithm 3). Where the group shrinks, the oldest leave

Groups that share a capacity hold equally many, as far as they were offered so many; what some do not fill is held by
the others (class-balancing reservoir sampling, Chrysakis and Moens 2020). A sample leaves a full memory only for one of
a smaller group, and then from a largest group. So a memory that was offered its capacity is full, and a group that is
more than one sample below the largest holds everything that it was offered.

A row that is offered twice is two samples, and may be held twice.

A sample is offered, kept and drawn at a cost that does not grow with the memory.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from clbench.rng import Generator

Integers = NDArray[np.int64]


class _Group:
    """The slots of one group, the number of samples offered to it, and the position of the oldest where age counts."""

    def __init__(self, slots: Integers | None = None, offered: int = 0, oldest: int = 0) -> None:
        self._slots = np.zeros(0, np.int64) if slots is None else slots
        self._count = len(self._slots)
        self.offered = offered
        self.oldest = oldest

    @property
    def slots(self) -> Integers:
        return self._slots[: self._count]

    def append(self, slots: Integers) -> None:
        if self._count + len(slots) > len(self._slots):
            self._slots = np.resize(self._slots, 2 * (self._count + len(slots)))
        self._slots[self._count : self._count + len(slots)] = slots
        self._count += len(slots)


class Buffer:
    """A memory of `capacity` samples.

    Args:
        generator: decides what is kept and what is drawn.
        capacity: samples in all, >= 1. Groups share it equally; the first ones take what does not divide, and those
            with more samples take what others do not fill.
        per_group: samples for each group instead, >= 1; the memory then grows with the groups.
        keep: of each group a uniform sample, or the last ones.

    The caller defines groups: one for all (a reservoir over the stream), or one a class (class-balanced).
    A sample stays in its *slot* as long as it is held.

    Attributes:
        index_of, task_of: what each slot holds, or held.
    """

    def __init__(
        self,
        generator: Generator,
        *,
        capacity: int | None = None,
        per_group: int | None = None,
        keep: Literal["random", "last"] = "random",
    ) -> None:
        if (capacity is None) == (per_group is None):
            raise ValueError("give either capacity or per_group")
        self._generator = generator
        self._capacity = capacity
        self._per_group = per_group
        self._keep = keep
        self._groups: dict[int, _Group] = {}
        room = capacity or 16
        self.index_of = np.zeros(room, np.int64)
        self.task_of = np.zeros(room, np.int64)
        self._occupied = np.arange(room)  # a permutation of the slots; the first `_count` are in use
        self._place = np.arange(room)  # its inverse
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def index(self) -> Integers:
        """Rows held, in arbitrary order, (len,)."""
        return self.index_of[self._occupied[: self._count]]

    @property
    def task(self) -> Integers:
        """The task of each row held, (len,)."""
        return self.task_of[self._occupied[: self._count]]

    def add(self, index: Integers, task: Integers, group: Integers) -> tuple[Integers, Integers]:
        """Offers samples; some are kept.

        Args:
            index: rows of the training set, (N,).
            task: the task of each, (N,).
            group: the group of each, (N,).

        Returns:
            positions in the offer, and the slots, of the samples that were kept, (M,) each. A method stores further
            data of a sample (its logits) by slot.
        """
        chance = self._generator.uniform(len(index)) if self._keep == "random" else None
        positions, slots = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for g in np.unique(group).tolist():
            if g not in self._groups:
                self._groups[g] = _Group()
            mine, held = np.flatnonzero(group == g), self._groups[g]
            size = self._make_room(g, len(mine))
            number = held.offered + 1 + np.arange(len(mine))
            held.offered += len(mine)
            if chance is None:  # of more than it may hold only the last ones count
                mine = mine[max(0, len(mine) - size) :]
            free, later = np.split(mine, [max(0, size - len(held.slots))])
            taken = self._take(len(free))
            held.append(taken)
            if chance is None:
                at = (held.oldest + np.arange(len(later))) % max(1, size)
                held.oldest = (held.oldest + len(later)) % max(1, size)
            else:
                at = (chance[later] * number[len(free) :]).astype(np.int64)
            positions += [free, later[at < size]]
            slots += [taken, held.slots[at[at < size]]]
        position, slot = np.concatenate(positions), np.concatenate(slots)
        if len(slot) > 1:  # of several for one slot the last one stays
            slot, last = np.unique(slot[::-1], return_index=True)
            position = position[::-1][last]
        self.index_of[slot], self.task_of[slot] = index[position], task[position]
        return position, slot

    def sample(self, n: int) -> tuple[Integers, Integers]:
        """min(n, len) different samples, uniformly: rows and tasks."""
        slots = self.slots(n)
        return self.index_of[slots], self.task_of[slots]

    def slots(self, n: int, generator: Generator | None = None) -> Integers:
        """The slots of min(n, len) different samples, uniformly.

        Args:
            n: samples wanted.
            generator: decides, instead of the memory's own.
        """
        return self._occupied[(generator or self._generator).sample(self._count, min(n, self._count))]

    @property
    def groups(self) -> tuple[int, ...]:
        """Non-empty groups, in the order of their first sample."""
        return tuple(g for g, held in self._groups.items() if len(held.slots))

    def slots_of(self, group: int) -> Integers:
        """The slots of a group, in arbitrary order."""
        return self._groups[group].slots

    def _make_room(self, group: int, offered: int) -> int:
        """Frees slots for a group where others hold more; returns the samples that it may hold after an offer.

        A group that lost or refused a sample was a largest one then, and stays one: it is not made room for again. So
        a group grows only while it holds all that it was offered, and its sample stays uniform.
        """
        if self._per_group is not None:
            return self._per_group
        assert self._capacity is not None
        held, free = len(self._groups[group].slots), self._capacity - self._count
        grown = held + min(offered, free)
        others = [name for name in self._groups if name != group]
        sizes = np.array([len(self._groups[name].slots) for name in others], np.int64)
        number = _number_to_take(sizes, grown, offered - (grown - held))
        for name, leaving in zip(others, _taken_from_the_top(sizes, number).tolist(), strict=True):
            self._shrink(name, leaving)
        return grown + number

    def _shrink(self, group: int, number: int) -> None:
        """Lets so many samples of a group leave."""
        if not number:
            return
        of = self._groups[group]
        if self._keep == "random":
            order = self._generator.permutation(len(of.slots))
            stay, leave = np.split(of.slots[order], [len(of.slots) - number])
        else:
            leave, stay = np.split(np.roll(of.slots, -of.oldest), [number])
        self._groups[group] = _Group(stay.copy(), of.offered)
        for slot in leave.tolist():
            self._count -= 1
            self._swap(self._place[slot], self._count)

    def _take(self, n: int) -> Integers:
        while self._count + n > len(self._occupied):  # only a memory with a quota per group grows
            room = len(self._occupied)
            self.index_of, self.task_of = (np.resize(a, 2 * room) for a in (self.index_of, self.task_of))
            self._occupied, self._place = (
                np.concatenate([a, np.arange(room, 2 * room)]) for a in (self._occupied, self._place)
            )
        self._count += n
        return self._occupied[self._count - n : self._count].copy()

    def _swap(self, a: int, b: int) -> None:
        one, other = self._occupied[a], self._occupied[b]
        self._occupied[a], self._occupied[b] = other, one
        self._place[one], self._place[other] = b, a

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue, the generator apart."""
        return {
            "groups": {g: [group.slots.copy(), group.offered, group.oldest] for g, group in self._groups.items()},
            "index": self.index_of.copy(),
            "task": self.task_of.copy(),
            "occupied": self._occupied.copy(),
            "count": self._count,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state_dict` was taken."""
        self._groups = {g: _Group(slots.copy(), *rest) for g, (slots, *rest) in state["groups"].items()}
        self.index_of, self.task_of = state["index"].copy(), state["task"].copy()
        self._occupied, self._count = state["occupied"].copy(), state["count"]
        self._place = np.argsort(self._occupied)


def _level(sizes: Integers, number: int) -> int:
    """The largest size after `number` times a largest one lost 1, >= 0."""
    low, high = 0, int(sizes.max(initial=0))
    while low < high:
        level = (low + high) // 2
        low, high = (low, level) if np.maximum(0, sizes - level).sum() <= number else (level + 1, high)
    return low


def _taken_from_the_top(sizes: Integers, number: int) -> Integers:
    """Loss of each size, if a largest one loses 1, of equals the last, `number` times in all.

    Args:
        sizes: >= 0, with a sum of at least `number`.

    >>> _taken_from_the_top(np.array([3, 0, 5, 5]), 4).tolist()
    [0, 0, 2, 2]
    >>> _taken_from_the_top(np.array([3, 0, 5, 5]), 6).tolist()
    [0, 0, 3, 3]
    """
    level = _level(sizes, number)
    taken = np.maximum(0, sizes - level)
    largest = np.flatnonzero(sizes >= max(1, level))
    taken[largest[len(largest) - (number - int(taken.sum())) :]] += 1
    return taken


def _number_to_take(sizes: Integers, held: int, most: int) -> int:
    """Number that a group takes from the others, one after the other, each time from one that holds at least two more.

    Args:
        sizes: of the others.
        held: samples that it holds before.
        most: samples that it can use.

    >>> _number_to_take(np.array([3, 0, 5, 5]), 1, 9), _number_to_take(np.array([2]), 1, 9)
    (2, 0)
    """
    low, high = 0, most
    while low < high:
        number = (low + high + 1) // 2
        low, high = (number, high) if _level(sizes, number - 1) >= held + number + 1 else (low, number - 1)
    return low
