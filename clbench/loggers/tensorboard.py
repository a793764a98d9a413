"""Event files for TensorBoard."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from clbench.loggers.points import Point, final_metrics, identity


class TensorBoard:
    """Event files of the folder, one for each attempt at the run; those of earlier attempts are removed.

    Steps are updates. Evaluations before and after an experience have the same step, in the order of the record.

    Args:
        folder: where they go.
        record: the run's run.json.
        resumed: whether an earlier attempt is continued; without meaning here.
    """

    def __init__(self, folder: Path, record: dict[str, Any], resumed: bool) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter
        from torch.utils.tensorboard.summary import text

        self._event, self._summary = Event, Summary
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        name = f"events.out.tfevents.{time.time_ns():020d}.{socket.gethostname()}.{os.getpid()}"
        # Not torch's FileWriter, whose thread writes: an error would end the thread, not reach us.
        self._file = (folder / name).open("wb")
        self._records = RecordWriter(self._file)
        self._write(file_version="brain.Event:2")
        # A TensorBoard that is looking at an earlier attempt forgets it.
        self._write(session_log=SessionLog(status=SessionLog.START))
        content = _as_markdown({**identity(record), "config": record["config"]})
        self._write(summary=text("run", content))  # type: ignore[no-untyped-call]
        self._iteration = 0
        self._file.flush()

    def _write(self, step: int = 0, **content: Any) -> None:
        self._records.write(self._event(wall_time=time.time(), step=step, **content).SerializeToString())

    def _scalars(self, values: dict[str, float]) -> None:
        scalars = self._summary(value=[self._summary.Value(tag=name, simple_value=v) for name, v in values.items()])
        self._write(self._iteration, summary=scalars)

    def add(self, points: Iterable[Point]) -> None:
        for _, self._iteration, values in points:
            self._scalars(values)
        self._file.flush()

    def end(self, record: dict[str, Any]) -> None:
        from torch.utils.tensorboard.summary import hparams, text

        if record["status"] == "completed":
            metrics = final_metrics(record)
            self._scalars(metrics)
            settings = {"strategy": record["config"]["strategy"]["name"], **_flat(record["config"])}
            for summary in hparams(settings, metrics):  # type: ignore[no-untyped-call]
                self._write(self._iteration, summary=summary)
        else:
            failure = _as_markdown(record["failure"])
            self._write(self._iteration, summary=text(record["status"], failure))  # type: ignore[no-untyped-call]

    def close(self) -> None:
        self._file.close()


def _flat(config: Any, path: str = "") -> dict[str, Any]:
    """Values by their key paths, lists as JSON; without those that are null.

    >>> _flat({"a": {"b": 1, "c": None}, "d": [1, 2]})
    {'a.b': 1, 'd': '[1, 2]'}
    """
    if isinstance(config, dict):
        return {k: v for key, item in config.items() for k, v in _flat(item, f"{path}.{key}" if path else key).items()}
    return {} if config is None else {path: json.dumps(config) if isinstance(config, list) else config}


def _as_markdown(value: Any) -> str:
    """JSON as preformatted text for TensorBoard."""
    return "\n".join(f"    {line}" for line in json.dumps(value, indent=1, sort_keys=True).splitlines())
