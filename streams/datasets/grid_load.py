"""The data set `grid_load`: forecasts of the flows on the branches of a power grid through outages. Semi-real.

Loads and productions are those of the chronics that the package grid2op ships (RTE's generated, realistic ones for the
IEEE 14-bus grid, 28 days of five-minute steps; Mozilla Public License 2.0). The flows are computed from them by a DC
power flow, in which the outage of a branch moves its flow to the others at once. The files are read where the package
is installed, after a check of their SHA-256; the package itself is not imported.

A sample is a time: its target the flow of every branch, its input the same a day earlier and at the last `inputs` steps
that are known `horizon` steps before, in units of the mean absolute flow in the training part of the first regime, in
multiples of 1/4096. Regimes are tasks and are divided as those of `link_load`.
"""

from __future__ import annotations

import bz2
import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
from numpy.typing import NDArray
from pydantic import Field

from clbench.errors import UserError
from clbench.schema import Count, Model, mistake
from clbench.streams.datasets.forecasts import training_steps, windows
from clbench.streams.datasets.sources import Arrays

_CASE = Path("data/rte_case14_realistic")
_SHA256 = {
    "grid.json": "48a6b7617d3c4d5e0d65ca880079dfceb5e4fc6c331adeca05e3cc5dd37e3ea7",
    "chronics/000/load_p.csv.bz2": "7ef9e338d046f5762a1ecf0f00070841b1dea98186820516c7fe3adcbba2ac10",
    "chronics/000/prod_p.csv.bz2": "e68bccae63374b698616a889972910a9785f9effe849ce3ae4912f11383b3859",
    "chronics/001/load_p.csv.bz2": "d0f1a8d1d480b726e6e59cc041e87fd63f59b4cee0d46293df5540c28f9e5257",
    "chronics/001/prod_p.csv.bz2": "38a9625d65a79289d8a7a58f59eed053f419dc933ca853fa958ec40edcb899aa",
}
_DAY = 288
_DAYS = 28
_BRIDGE = 18
"""The branch without which the grid falls apart."""


class GridLoadData(Model):
    """Flows on the 20 branches of a power grid, to forecast, through outages; needs the files of grid2op 1.12.6."""

    chronic: Literal["000", "001"] = "000"
    """Which of the two courses of 28 days."""
    outages: list[Annotated[int, Field(ge=0, le=19)]] = Field(default=[2, 5, 9], min_length=1)
    """Branches, 0 to 14 lines and 15 to 19 transformers, that fail one after the other, each with a repair after it."""
    days_before: Count = 8
    """Length of the regime before the first outage."""
    days_failed: Count = 3
    days_repaired: Count = 3
    inputs: Count = 12
    """Latest known steps in an input, of five minutes each."""
    horizon: Count = 12
    """Steps from the last of them to the target."""

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> GridLoadData:
        days = 1 + self.days_before + len(self.outages) * (self.days_failed + self.days_repaired)
        if days > _DAYS:
            raise mistake(f"{days} days, with one that is input alone, of the {_DAYS} of a chronic", "outages")
        if self.inputs + self.horizon > _DAY:
            sentence = f"{self.inputs} inputs and a horizon of {self.horizon} do not fit into {_DAY}"
            raise mistake(f"{sentence} steps of a day, whose value a day earlier is an input", "horizon")
        if _BRIDGE in self.outages:
            raise mistake(f"without branch {_BRIDGE} the grid falls apart", "outages")
        return self

    @property
    def tasks(self) -> int:
        """Number of regimes."""
        return 1 + 2 * len(self.outages)


def check() -> None:
    """
    Raises:
        UserError: the files are not on this machine.
    """
    _folder()


def grid_load(parameters: GridLoadData) -> Arrays:
    """The data set.

    Raises:
        UserError: the files are missing, or not those of the package's release.
    """
    power = _injections(parameters.chronic)
    lengths = [_DAY, parameters.days_before * _DAY]
    outages: list[int | None] = [None, None]
    for out in parameters.outages:
        lengths += [parameters.days_failed * _DAY, parameters.days_repaired * _DAY]
        outages += [out, None]
    task = np.repeat(np.arange(-1, parameters.tasks), lengths)
    flows = np.zeros((len(task), 20))
    for t, branch in enumerate(outages, start=-1):
        flows[task == t] = power[: len(task)][task == t] @ distribution(*_branches(), outage=branch).T
    unit = np.rint(np.abs(flows[_DAY : _DAY + training_steps(lengths[1])]).mean() * 4096) / 4096
    flows = np.rint(flows / unit * 4096) / 4096
    names = tuple(f"branch {i}" for i in range(flows.shape[1]))
    return windows(flows, task, inputs=parameters.inputs, horizon=parameters.horizon, season=_DAY, names=names)


def distribution(
    ends: NDArray[np.int64], reactance: NDArray[np.float64], buses: int, outage: int | None = None
) -> NDArray[np.float64]:
    """Flow on each branch per unit of power fed in at each bus and taken out at bus 0, (branches, buses).

    The DC power flow: flow = (angle at one end - angle at the other) / reactance, and at every bus the flows add up to
    what is fed in.

    Args:
        ends: the two buses of each branch, (branches, 2).
        reactance: of each branch, per unit.
        buses: their number.
        outage: a branch that carries nothing.

    Returns:
        Rounded to 2^-20, so that a solver's last bits do not matter.

    Raises:
        ValueError: the outage cuts a bus off.

    >>> triangle = np.array([[0, 1], [1, 2], [0, 2]]), np.ones(3), 3
    >>> (distribution(*triangle)[:, 2] * 3).round(3).tolist(), distribution(*triangle, outage=2)[:, 2].tolist()
    ([-1.0, -1.0, -2.0], [-1.0, -1.0, 0.0])
    """
    susceptance = 1.0 / reactance
    if outage is not None:
        susceptance[outage] = 0.0
    incidence = np.zeros((len(ends), buses))
    incidence[np.arange(len(ends)), ends[:, 0]] = 1.0
    incidence[np.arange(len(ends)), ends[:, 1]] = -1.0
    laplacian = (incidence.T @ (susceptance[:, None] * incidence))[1:, 1:]
    if np.linalg.matrix_rank(laplacian) < buses - 1:
        raise ValueError(f"without branch {outage} the grid falls apart")
    angles = np.zeros((buses, buses))
    angles[1:, 1:] = np.linalg.inv(laplacian)
    return np.asarray(np.rint(susceptance[:, None] * incidence @ angles * 2**20) / 2**20)


def _folder() -> Path:
    try:
        spec = importlib.util.find_spec("grid2op")
    except (ImportError, ValueError):
        spec = None
    for place in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(place) / _CASE).is_dir():
            return Path(place) / _CASE
    raise UserError("data set 'grid_load' needs the files of grid2op: pip install --no-deps grid2op==1.12.6")


def _read(name: str) -> bytes:
    path = _folder() / name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None
    if hashlib.sha256(content).hexdigest() != _SHA256[name]:
        raise UserError(f"{path}: not the file of grid2op 1.12.6; pip install --no-deps grid2op==1.12.6")
    return content


def _branches() -> tuple[NDArray[np.int64], NDArray[np.float64], int]:
    """Ends, reactances (per unit at 100 MVA) and number of buses: 15 lines, then 5 transformers."""
    net = json.loads(_read("grid.json"))["_object"]

    def table(name: str) -> dict[str, NDArray[Any]]:
        content = json.loads(net[name]["_object"])
        return {c: np.array([row[i] for row in content["data"]]) for i, c in enumerate(content["columns"])}

    bus, line, transformer = table("bus"), table("line"), table("trafo")
    ends = np.concatenate([
        np.stack([t[a].astype(np.int64), t[b].astype(np.int64)], 1)
        for t, a, b in ((line, "from_bus", "to_bus"), (transformer, "hv_bus", "lv_bus"))
    ])  # fmt: skip
    ohm = (line["x_ohm_per_km"] * line["length_km"]).astype(float)
    lines = ohm / (bus["vn_kv"].astype(float)[ends[: len(ohm), 0]] ** 2 / 100.0)
    position = np.nan_to_num(transformer["tap_pos"].astype(float))
    tap = 1.0 + transformer["tap_step_percent"].astype(float) / 100.0 * position
    transformers = transformer["vk_percent"].astype(float) / transformer["sn_mva"].astype(float) * tap
    return ends, np.concatenate([lines, transformers]), len(bus["vn_kv"])


def _injections(chronic: str) -> NDArray[np.float64]:
    """MW fed in at each bus less MW taken out, at each step, (8064, 14)."""
    parts = []
    for kind, sign in (("load", -1.0), ("prod", 1.0)):
        header, *rows = bz2.decompress(_read(f"chronics/{chronic}/{kind}_p.csv.bz2")).decode().split()
        values = np.array([row.split(";") for row in rows], np.float64) * sign
        parts.append((values, [int(name.split("_")[1]) for name in header.split(";")]))
    power = np.zeros((len(parts[0][0]), 14))
    for values, buses in parts:
        for column, bus in enumerate(buses):
            power[:, bus] += values[:, column]
    return power
