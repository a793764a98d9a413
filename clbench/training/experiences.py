"""Experiences of a strategy, restricted by its data access and by the protocol."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clbench.config.benchmark import Protocol
from clbench.strategy import Experience
from clbench.stream import Rows, Stream, StreamExperience, joined


class Experiences:
    """The experiences of a stream, for one strategy.

    Args:
        stream: the stream.
        access: data of one training phase: the experience; all up to it; the whole stream. The last two hold repeated
            samples once.
        protocol: available information.
    """

    def __init__(self, stream: Stream, access: Literal["experience", "past", "stream"], protocol: Protocol) -> None:
        self._stream = stream
        self._access = access
        self._protocol = protocol
        self._collected = 0  # number of experiences in the lists below
        self._tasks: set[int] = set()
        self._seen: dict[int, NDArray[np.bool_]] = {}
        self._parts: list[tuple[int, Rows]] = []
        self._joined: tuple[Rows, Rows] | None = None

    def tasks(self, number: int) -> tuple[int, ...]:
        """Tasks in the training data of an experience, ascending."""
        if self._access == "experience":
            return self._stream.present(self._stream.experiences[number])
        self._collect(number)
        return tuple(sorted(self._tasks))

    def newly_accessible(self, number: int) -> tuple[StreamExperience, ...]:
        """Experiences whose samples become accessible with an experience."""
        if self._access == "stream":
            return self._stream.experiences if number == 0 else ()
        return (self._stream.experiences[number],)

    def __call__(self, number: int) -> Experience:
        """Experience `number`, without information that the protocol denies."""
        experience, stream = self._stream.experiences[number], self._stream
        tasks = self.tasks(number)
        if self._access == "experience":
            index, task = joined(experience.parts)
        else:
            self._joined = self._joined or joined(self._parts)
            index, task = self._joined
        unlabelled, unlabelled_task = joined(experience.unlabelled)
        first = experience.origin
        last = number
        while last + 1 < len(stream.experiences) and stream.experiences[last + 1].origin == first:
            last += 1
        return Experience(
            number=number,
            tasks=tasks if self._protocol.task_in_training else (),
            outputs=tuple(sorted({o for t in tasks for o in stream.tasks[t].targets})),
            index=index,
            task=task,
            part=number - first,
            parts=last - first + 1,
            unlabelled=unlabelled,
            unlabelled_task=unlabelled_task,
        )

    @staticmethod
    def unbounded() -> Experience:
        """The single experience of a protocol without boundaries; nothing is known of it in advance."""
        none = np.zeros(0, np.int64)
        return Experience(0, (), (), none, none, 0, 1, none, none)

    def _collect(self, number: int) -> None:
        """Collects all samples up to an experience, or of the stream, each once for each task."""
        wanted = len(self._stream.experiences) if self._access == "stream" else number + 1
        if wanted < self._collected:
            self._collected, self._tasks, self._seen, self._parts, self._joined = 0, set(), {}, [], None
        for experience in self._stream.experiences[self._collected : wanted]:
            self._tasks.update(self._stream.present(experience))
            for t, rows in experience.parts:
                seen = self._seen.setdefault(t, np.zeros(len(self._stream.labels), np.bool_))
                new = rows[~seen[rows]]
                if len(new):
                    seen[new] = True
                    self._parts.append((t, new))
                    self._joined = None
        self._collected = wanted
