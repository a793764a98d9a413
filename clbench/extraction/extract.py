"""Features of a data set, batch by batch, written as an npz file that is a data set again."""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

import clbench
from clbench import registry
from clbench.dataset import DataSet
from clbench.errors import UserError
from clbench.extraction.networks import Extractor, extractor
from clbench.extraction.parts import Part, Parts, differing
from clbench.extraction.settings import Extraction
from clbench.results import files, provenance
from clbench.runner.lock import Busy, Lock
from clbench.runner.numerics import numerics
from clbench.runner.signals import Interrupted, StopRequest
from clbench.stream import Domain, Stream, Task
from clbench.streams.datasets import feature_files
from clbench.streams.datasets.columns import is_table
from clbench.streams.datasets.image_folders import folder_of
from clbench.streams.datasets.resized import resized_in_batches
from clbench.training.inputs import InputTransform, StoredInputs

_PART_S = 10.0
"""Time after which features are written as a part."""

_PART_BYTES = 64 << 20
"""Size of features at which they are written as a part."""

_PARTS = ("train", "test")


class Progress(Protocol):
    """Shows how many samples are done."""

    def start(self, total: int, done: int) -> None: ...

    def update(self, done: int) -> None: ...

    def close(self) -> None: ...


class _Unshown:
    def start(self, total: int, done: int) -> None: ...

    def update(self, done: int) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Source:
    """A data set as a network is shown it.

    Attributes:
        data: with inputs of the network's size.
        stored: the data set before it was resized: its name, digest and labels go with the features.
        transform: stored samples to inputs.
        described: the transform, as plain JSON values.
    """

    data: DataSet
    stored: DataSet
    transform: InputTransform
    described: dict[str, Any]


def extract(
    extraction: Extraction, output: Path, *, force: bool = False, progress: Progress | None = None
) -> dict[str, Any]:
    """Computes features and writes them to an npz file; an interrupted extraction resumes after its last part.

    The file's bytes depend on the extraction, the machine and the software alone, and not on interruptions.

    Args:
        extraction: data, networks, numerics.
        output: the file, `.npz`.
        force: whether a file of other features is replaced.
        progress: of the samples.

    Returns:
        the provenance, see `clbench.streams.datasets.feature_files`.

    Raises:
        UserError: data, weights or other features that do not fit; a file of other features at that place.
        Interrupted: by Ctrl-C or SIGTERM.
    """
    if output.suffix != ".npz":
        raise UserError(f"-o {output}: features are written as an npz file, such as {output.stem or 'features'}.npz.")
    device = torch.device(extraction.numerics.device)
    with numerics(extraction.numerics):
        source = source_of(extraction, device)
        earlier = [_beside(path, source.stored) for path in extraction.beside]
        extractors = [extractor(n, source.data.shape, source.data.classes, device) for n in extraction.networks]
        told = _provenance(extraction, source, earlier, extractors)
        if output.exists() and not force:
            if (difference := differing(feature_files.provenance_of(output), told)) == "":
                return told
            raise UserError(f"-o {output}: holds other data (they differ in {difference}); --force replaces the file.")
        parts = Parts(output)
        parts.make()
        try:
            with Lock(parts.folder):
                try:
                    parts.begin({"provenance": told, "beside": [data.sha256 for data, _ in earlier]})
                    work = _Work(extraction, source, [data for data, _ in earlier], extractors, device, parts)
                    work.run(output, progress or _Unshown())
                    _write(output, source.stored, {part: parts.whole(part) for part in _PARTS}, told)
                    parts.remove()
                finally:
                    parts.tidy()
        except Busy as holder:
            raise UserError(f"{parts.folder}: {holder} is already running this extraction.") from None
        finally:
            parts.close()
    return told


def source_of(extraction: Extraction, device: torch.device) -> Source:
    """The data set of an extraction; images that are in one array are resized when they are read.

    Raises:
        UserError: unavailable, or a size for what has none.
    """
    config, size = extraction.data, extraction.data.size
    at_once = not isinstance(config.data, str) or is_table(config.data) or folder_of(config.data) is not None
    stored = registry.datasets().load(config.data, size=size if at_once else None, **config.reading)
    data = stored if size is None or at_once else resized_in_batches(stored, size)
    classes = tuple(range(data.classes))
    stream = Stream(
        data=data, labels=data.train_y, setting="domain", domains=(Domain(),), tasks=(Task(0, 0, classes, classes),),
        variants=(), experiences=(), outputs=data.classes, definition_hash="", seed=0, normalise=config.normalise,
    )  # fmt: skip
    standard = config.normalise == "standard"
    described = {
        "normalise": config.normalise, "size": list(data.shape[1:]) if len(data.shape) == 3 else None, "top": data.top,
        "mean": list(data.mean) if standard else None, "std": list(data.std) if standard else None,
    }  # fmt: skip
    return Source(data, stored, InputTransform(stream, device), described)


def _beside(path: Path, data: DataSet) -> tuple[DataSet, dict[str, Any]]:
    """Features of a file, with their provenance.

    Raises:
        UserError: no features, or those of another data set.
    """
    told = feature_files.provenance_of(path) if path.is_file() else None
    held: DataSet = registry.datasets().load(f"npz:{path}")
    if told is None:
        raise UserError(f"--beside {path}: no features by `clbench features`; its provenance is missing.")
    sizes = (len(held.train_y), len(held.test_y)), (len(data.train_y), len(data.test_y))
    if sizes[0] != sizes[1]:
        counts = " and ".join(f"{train:,} training and {test:,} test samples" for train, test in sizes)
        raise UserError(
            f"--beside {path}: features of '{told['data']['name']}' do not go with '{data.name}': {counts}."
        )
    if told["data"]["sha256"] != data.sha256:
        raise UserError(
            f"--beside {path}: features of '{told['data']['name']}' do not go with '{data.name}': SHA-256 "
            f"{told['data']['sha256'][:16]}... and {data.sha256[:16]}... of the data sets."
        )
    return held, told


def _provenance(
    extraction: Extraction, source: Source, earlier: list[tuple[DataSet, dict[str, Any]]], extractors: list[Extractor]
) -> dict[str, Any]:
    """
    Raises:
        UserError: no network at all, or one twice.
    """
    entries: list[dict[str, Any]] = [entry for _, told in earlier for entry in told["features"]]
    software = {"clbench": clbench.__version__, **provenance.packages()}
    for each in extractors:
        entries.append({
            "model": each.model, "tensors_sha256": each.tensors_sha256, "features": each.features,
            "transform": source.described, "dtype": extraction.dtype, "batch_size": extraction.batch_size,
            "device": extraction.numerics.device, "threads": extraction.numerics.threads,
            "software": {name: software[name] for name in ("clbench", "torch", "numpy")},
        })  # fmt: skip
    if not entries:
        raise UserError("--model: required, but not given; or name files of features by --beside.")
    told = {
        "format": feature_files.FORMAT,
        "data": {
            "name": source.stored.name, "sha256": source.stored.sha256, "train": len(source.stored.train_y),
            "test": len(source.stored.test_y),
        },
        "features": entries,
    }  # fmt: skip
    networks = feature_files.networks_of(told)
    for i, network in enumerate(networks):
        if network in networks[:i]:
            raise UserError(
                f"--weights: features {networks.index(network)} and {i} are of one network, {network['model']['name']} "
                f"{network['tensors_sha256'][:16]}...; side by side they would be twice the same."
            )
    return told


@dataclass(frozen=True)
class _Work:
    """Batches that are still to be done."""

    extraction: Extraction
    source: Source
    beside: list[DataSet]
    extractors: list[Extractor]
    device: torch.device
    parts: Parts

    def run(self, output: Path, progress: Progress) -> None:
        """Completes the parts.

        Raises:
            UserError: features that are not finite.
            Interrupted: by Ctrl-C or SIGTERM; what is done is kept.
        """
        counts = {"train": len(self.source.data.train_y), "test": len(self.source.data.test_y)}
        begun = {part: done[-1].last if (done := self.parts.whole(part)) else 0 for part in _PARTS}
        total, before = sum(counts.values()), sum(begun.values())
        with StopRequest() as request, closing(progress), torch.inference_mode():
            progress.start(total, before)
            for part in _PARTS:
                for n in self._batches(part, begun[part], counts[part], lambda: request.to_stop is not None):
                    progress.update(before + n)
                before += counts[part] - begun[part]
                if request.to_stop is not None:
                    reached = sum(held[-1].last for name in _PARTS if (held := self.parts.whole(name)))
                    raise Interrupted(
                        f"{output}: interrupted at {reached:,} of {total:,} samples; the same command resumes."
                    )

    def _batches(self, part: str, begin: int, end: int, stop: Callable[[], bool]) -> Iterator[int]:
        """Number of samples done after each batch; what is done is written at intervals, and at the end or a stop."""
        x = self.source.data.train_x if part == "train" else self.source.data.test_x
        size = self.extraction.batch_size
        bounds = [(a, min(a + size, end)) for a in range(begin, end, size)]
        samples = StoredInputs(x, self.device).in_turn(torch.arange(end, device=self.device), bounds)
        pending: list[NDArray[Any]] = []
        first, since = begin, time.monotonic()
        for (a, b), stored in zip(bounds, samples, strict=True):
            if stop():
                break
            pending.append(self._features(part, a, b, self.source.transform(stored, 0)))
            held = sum(features.nbytes for features in pending)
            if held >= _PART_BYTES or time.monotonic() - since >= _PART_S:
                self.parts.add(part, first, np.concatenate(pending))
                pending, first, since = [], b, time.monotonic()
            yield b - begin
        if pending:
            self.parts.add(part, first, np.concatenate(pending))

    def _features(self, part: str, a: int, b: int, x: torch.Tensor) -> NDArray[Any]:
        """Features of the rows a..b-1 by all networks, side by side.

        Raises:
            UserError: one is not finite.
        """
        dtype = np.dtype(self.extraction.dtype)
        columns = [np.asarray(getattr(data, f"{part}_x")[a:b]) for data in self.beside]
        columns += [each.front(x).float().cpu().numpy() for each in self.extractors]
        with np.errstate(over="ignore"):  # of a float16: told below
            features = np.concatenate([column.astype(dtype, copy=False) for column in columns], 1)
        finite = np.isfinite(features).all(1)
        if not finite.all():
            raise UserError(
                f"features of {part} sample {a + int(np.flatnonzero(~finite)[0])} of '{self.source.stored.name}' are "
                f"not finite in {dtype}."
            )
        return features


def _write(output: Path, data: DataSet, parts: dict[str, list[Part]], told: dict[str, Any]) -> None:
    """The npz file: features from the parts, all else from the data set. No compression, no time stamps."""
    arrays: dict[str, NDArray[Any]] = {}
    labels = ("train_target", "test_target") if data.train_target is not None else ("train_y", "test_y")
    for name in (*labels, "train_task", "test_task"):
        if (array := getattr(data, name)) is not None:
            arrays[name] = array
    for name in ("class_names", "target_names"):
        if texts := getattr(data, name):
            arrays[name] = np.array(texts, np.str_)
    arrays[feature_files.ARRAY] = np.array(json.dumps(told, sort_keys=True))
    with files.writing(output) as stream, zipfile.ZipFile(stream, "w") as archive:
        for part, held in parts.items():
            with _member(archive, f"{part}_x") as member:
                shape = (held[-1].last, held[0].read().shape[1])
                descr = np.lib.format.dtype_to_descr(held[0].read().dtype)
                header = {"descr": descr, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(member, header)
                for each in held:
                    member.write(each.read().data)
        for name, array in arrays.items():
            with _member(archive, name) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _member(archive: zipfile.ZipFile, name: str) -> Any:
    return archive.open(zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0)), "w", force_zip64=True)
