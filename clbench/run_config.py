"""The resolved configuration that determines a run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import pydantic
from pydantic import Field

from clbench import registry
from clbench.config.benchmark import Benchmark, Numerics, Seeds, StrategyConfig, Tuning
from clbench.config.evaluation import Watch
from clbench.schema import content_hash, definition

_RESERVED = re.compile(r"^(con|prn|aux|nul|(com|lpt)[0-9])(?=\.|$)", re.IGNORECASE)
"""Names of devices on Windows, where no file may have them, whatever follows a point."""

_NO_RUNS = re.compile(r"^(trials|superseded)$", re.IGNORECASE)
"""Names of folders whose runs are left out of tables, see `clbench.results.files.find_runs`."""


def directory(out: Path, benchmark: str, strategy: str, config_hash: str, seed: int) -> Path:
    """Folder of the files of a run; always inside `out`.

    Args:
        out: the results folder.
        benchmark: its id, which is a file's name.
        strategy: its name; other characters than letters, digits, _, + and - become points.
        config_hash: of its configuration.
        seed: of the run.
    """
    folder = _NO_RUNS.sub(r"_\g<0>", _RESERVED.sub(r"_\g<0>", benchmark))
    name = _RESERVED.sub(r"_\g<0>", re.sub(r"[^A-Za-z0-9_+-]+", ".", strategy).strip(".") or "_")
    return out / folder / name / config_hash[:16] / f"seed-{seed}"


class RunConfig(pydantic.BaseModel):
    """The resolved configuration that determines a run."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    benchmark: Benchmark
    strategy: StrategyConfig
    seed: Annotated[int, Field(ge=0)]
    seeds: Seeds
    numerics: Numerics
    watch: Watch = Watch()
    tuning: Tuning | None = None
    modified: bool
    """True if the benchmark differs from the shipped one of its id, or if none is shipped."""

    @property
    def stream_seed(self) -> int:
        """Seed that the stream is compiled with."""
        return self.seeds.for_stream(self.seed)

    @property
    def definition_hash(self) -> str:
        """Of the benchmark: stream, model, budget and protocol, without names and seeds. Boards are keyed by it."""
        # A file's bytes hold its name. Earlier versions recorded nothing else of it, and their ids stay what they are.
        file = {"weights", "weights_sha256"} if self.benchmark.model.tensors_sha256 else {"weights"}
        unnamed = {"id": True, "title": True, "source": True, "model": file}
        return content_hash(definition(self.benchmark, exclude=unnamed))

    @property
    def config_hash(self) -> str:
        """Of everything except the run's seed: runs that differ only in the seed share it."""
        return content_hash(self._identity())

    @property
    def run_id(self) -> str:
        """Of everything: two runs with one id end in the same bytes on the same machine and software."""
        return content_hash({**self._identity(), "seed": self.seed})

    def directory(self, out: Path) -> Path:
        """Folder of the run's files; always inside `out`."""
        return directory(out, self.benchmark.id, self.strategy.name, self.config_hash, self.seed)

    def _identity(self) -> dict[str, Any]:
        model = registry.strategy_config(self.strategy.name)
        parameters = self.strategy.parameters
        identity = {
            "benchmark_id": self.benchmark.id,
            "definition": self.definition_hash,
            "strategy": self.strategy.name,
            "parameters": definition(model.model_validate(parameters)) if model else parameters,
            "seeds": self.seeds.model_dump(mode="json", exclude_none=True),
            # Options that came later are left out where they are off, so that older ids stay what they are.
            "numerics": self.numerics.model_dump(mode="json", exclude=self.numerics.off),
        }
        if self.watch != Watch():
            identity["watch"] = definition(self.watch)
        if self.tuning is not None:
            identity["tuning"] = definition(self.tuning)
        return identity
