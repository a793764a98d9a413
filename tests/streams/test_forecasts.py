"""Generated data of regressions: forecasts through failures, and concepts; their facts against independent oracles."""

from __future__ import annotations

import importlib.util
from itertools import pairwise

import numpy as np
import pydantic
import pytest
from numpy.typing import NDArray

from clbench.errors import UserError
from clbench.rng import Generator
from clbench.streams.datasets import concepts, grid_load, link_load, load
from clbench.streams.datasets.forecasts import windows
from clbench.streams.datasets.link_load import LinkLoadData
from clbench.streams.datasets.routing import pairs, routing, shortest_paths
from clbench.streams.datasets.topologies import TOPOLOGIES
from clbench.streams.definition import StreamConfig

GRID = importlib.util.find_spec("grid2op") is not None


@pytest.mark.parametrize("name", TOPOLOGIES)
@pytest.mark.parametrize("failed", [(), (3,), (2, 9)])
def test_paths_are_as_short_as_another_librarys(name: str, failed: tuple[int, ...]) -> None:
    networkx = pytest.importorskip("networkx")
    topology = TOPOLOGIES[name]
    graph = networkx.Graph()
    graph.add_nodes_from(range(len(topology.nodes)))
    graph.add_weighted_edges_from(link for i, link in enumerate(topology.links) if i not in failed)
    for source in range(len(topology.nodes)):
        lengths = networkx.single_source_dijkstra_path_length(graph, source)
        ours = shortest_paths(topology, source, failed)
        assert ours.keys() == lengths.keys()
        for node, path in ours.items():
            assert path[0] == source
            assert networkx.path_weight(graph, path, "weight") == lengths[node]


def test_equal_lengths_are_decided_by_node_numbers() -> None:
    square = TOPOLOGIES["abilene"].__class__(
        ("a", "b", "c", "d"), (1,) * 4, (0,) * 4, ((0, 1, 1), (0, 2, 1), (1, 3, 1), (2, 3, 1))
    )
    assert shortest_paths(square, 0)[3] == (0, 1, 3)
    assert shortest_paths(square, 3)[0] == (3, 1, 0)


def test_a_network_that_falls_apart_has_no_routing() -> None:
    assert routing(TOPOLOGIES["abilene"], [0]) is None  # the only link of ATLAM5


def test_the_load_is_what_its_demands_make_it() -> None:
    """By the definition, demand by demand and link by link, at a few steps."""
    parameters = LinkLoadData(failures=[2], days_before=2, days_failed=1, days_repaired=1, seed=3)
    topology = TOPOLOGIES["abilene"]
    load_, task = link_load.series(parameters)
    flows = link_load.demands(parameters, len(task))
    pieces = link_load.regimes(parameters)

    def by_hand(step: int) -> NDArray[np.float64]:
        total = np.zeros(len(topology.links))
        failed = pieces[task[step]].failed if task[step] >= 0 else ()
        for row, (a, b) in enumerate(pairs(topology)):
            path = shortest_paths(topology, a, failed)[b]
            for i, (c, d, _) in enumerate(topology.links):
                total[i] += flows[step, row] * sum({c, d} == {*hop} for hop in pairwise(path))
        return total

    training = [by_hand(step) for step in range(96, 96 + 154)]  # all but the last fifth of two days
    unit = np.mean(training)
    for step in (0, 100, 96 * 3 + 5, 96 * 4 + 7):
        assert np.abs(by_hand(step) / unit - load_[step]).max() <= 0.5 / 4096
    failed = list(pieces[1].failed)
    assert len(failed) == 2
    assert not load_[task == 1][:, failed].any()
    assert load_[task == 2][:, failed].any()


def test_severity_is_the_share_of_traffic_that_takes_another_path() -> None:
    parameters = LinkLoadData(topology="geant", failures=[1, 3], seed=1)
    topology = TOPOLOGIES["geant"]
    for regime in link_load.regimes(parameters):
        total = moved = 0
        for a, b in pairs(topology):
            demand = topology.shares[a] * topology.shares[b]
            total += demand
            moved += demand * (shortest_paths(topology, a)[b] != shortest_paths(topology, a, regime.failed)[b])
        assert regime.moved == moved / total
        assert (regime.moved > 0) == bool(regime.failed)


def test_windows_hold_what_is_known_and_no_later_value() -> None:
    time = np.arange(40.0)
    task = np.repeat([-1, 0, 1], [10, 20, 10])
    series = np.stack([time, time + 0.5], 1)
    data = windows(series, task, inputs=3, horizon=2, season=10, names=("a", "b"))
    x, y = np.concatenate([data.train_x, data.test_x]), np.concatenate([data.train_target, data.test_target])
    at = y[:, 0]
    assert sorted(at) == list(range(10, 40))
    assert x.reshape(len(x), 4, 2)[:, :, 0].T.tolist() == [(at - back).tolist() for back in (10, 4, 3, 2)]
    assert (x.reshape(len(x), 4, 2)[:, :, 1] == x.reshape(len(x), 4, 2)[:, :, 0] + 0.5).all()


@pytest.mark.parametrize(
    "name", ["link_load", pytest.param("grid_load", marks=pytest.mark.skipif(not GRID, reason="grid2op"))]
)
def test_every_training_sample_is_earlier_than_every_test_sample_of_its_regime(name: str) -> None:
    data = load.load(name)
    assert data.train_target is not None
    assert data.test_target is not None
    assert data.train_task is not None
    assert data.test_task is not None
    counts = np.bincount(data.train_task)
    assert (np.bincount(data.test_task) * 4 == counts + (-counts) % 4).all() or name == "grid_load"
    width = data.train_target.shape[1]
    for regime in range(len(counts)):
        y = data.train_target[data.train_task == regime]
        x = data.test_x[data.test_task == regime].reshape(-1, 13, width)
        if name == "link_load":
            assert (x[0, -1] == y[-1]).all()  # the first test input ends in the last training target
        else:
            assert (x[0, -1] == y[-12]).all()


def test_parameters_and_seed_determine_every_byte() -> None:
    """Also across machines: the digests were taken on one of them."""
    assert load.load("link_load").sha256 == load.load("link_load", LinkLoadData()).sha256
    digests = {
        "abilene": load.load("link_load").sha256,
        "geant": load.load("link_load", LinkLoadData(topology="geant", seed=1)).sha256,
        "concepts": load.load("concepts").sha256,
    }
    assert {name: digest[:16] for name, digest in digests.items()} == {
        "abilene": "c377d21b742ae965",
        "geant": "75ac0f24ddc1f4dc",
        "concepts": "68be44057787f11e",
    }


def test_the_daily_and_the_weekly_course_are_in_the_demands() -> None:
    flows = link_load.demands(LinkLoadData(noise=0), 96 * 7).sum(1)
    days = flows.reshape(7, 96)
    assert np.allclose(days[1], days[2])
    assert days[:5].mean() > 1.4 * days[6].mean()
    assert days[2].max() > 2.5 * days[2].min()


def test_noise_has_its_deviation_and_memory() -> None:
    quiet, loud = (link_load.demands(LinkLoadData(noise=n), 96 * 14).astype(float) for n in (0.0, 0.1))
    relative = loud / quiet - 1.0
    assert relative.std() == pytest.approx(0.1, rel=0.03)
    assert np.corrcoef(relative[:-1].ravel(), relative[1:].ravel())[0, 1] == pytest.approx(0.9, abs=0.02)


def test_one_link_alone_is_a_forecast_of_one_number() -> None:
    whole, one = load.load("link_load"), load.load("link_load", LinkLoadData(link="CHINng-NYCMng"))
    column = TOPOLOGIES["abilene"].link_names.index("CHINng-NYCMng")
    assert one.shape == (13,)
    assert whole.train_target is not None
    assert one.train_target is not None
    assert (one.train_target[:, 0] == whole.train_target[:, column]).all()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"horizon": 90}, "12 inputs and a horizon of 90 do not fit into 96 steps of a day"),
        ({"link": "CHIN-NYCM"}, "Did you mean 'CHINng-NYCMng'?"),
        ({"failures": []}, "at least 1 item"),
    ],
)
def test_mistakes_of_parameters_are_named(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(pydantic.ValidationError) as raised:
        LinkLoadData(**changes)  # type: ignore[arg-type]
    assert sentence in str(raised.value)


def test_a_network_that_cannot_lose_so_many_links_is_refused() -> None:
    with pytest.raises(UserError, match="'abilene' has no further failure of 8 links that cuts no node off"):
        link_load.regimes(LinkLoadData(failures=[8]))


def test_parameters_belong_to_their_data_set() -> None:
    with pytest.raises(pydantic.ValidationError, match="is for the data set 'link_load', not for 'concepts'"):
        StreamConfig.model_validate(
            {"data": "concepts", "link_load": {}, "tasks": {"by": "given"}, "setting": "domain"}
        )


def test_each_concept_is_another_function_of_the_same_hidden_units() -> None:
    """Least squares on the true hidden units explain one concept exactly, and no other one."""
    parameters = concepts.ConceptsData(noise=0.0, separation=0.0, units=4)
    data = load.load("concepts", parameters)
    assert data.train_target is not None
    assert data.test_target is not None
    assert data.train_task is not None
    assert data.test_task is not None
    x, y = np.asarray(data.train_x, np.float64), data.train_target[:, 0].astype(np.float64)
    for k in range(4):
        assert y[data.train_task == k].mean() == pytest.approx(0.0, abs=1e-3)
        assert y[data.train_task == k].std() == pytest.approx(1.0, abs=1e-3)
    generator = Generator(0, "concepts")
    a = np.rint(generator.normal(4 * 8).reshape(4, 8) * 256) / 256
    b = np.rint(generator.normal(4) * 256) / 256
    hidden = np.concatenate([np.maximum(x @ a.T + b, 0.0), np.ones((len(x), 1))], 1)
    rows = [np.flatnonzero(data.train_task == k) for k in range(4)]
    solution = np.linalg.lstsq(hidden[rows[0]], y[rows[0]], rcond=None)[0]
    errors = [float(np.abs(hidden[r] @ solution - y[r]).max()) for r in rows]
    assert errors[0] < 1e-3
    assert min(errors[1:]) > 0.5


@pytest.mark.skipif(not GRID, reason="grid2op is not installed")
def test_the_base_case_has_the_textbook_flows() -> None:
    """DC flows of the IEEE 14-bus case, MW on its first branches."""
    power = np.array([219.0, 18.3, -94.2, -47.8, -7.6, -11.2, 0, 0, -29.5, -9.0, -3.5, -6.1, -13.5, -14.9])
    flows = grid_load.distribution(*grid_load._branches()) @ power
    assert np.abs(flows[:5] - [147.8, 71.2, 70.0, 55.2, 41.0]).max() < 0.1


@pytest.mark.skipif(not GRID, reason="grid2op is not installed")
def test_an_outage_moves_its_flow_and_nothing_is_lost() -> None:
    ends, reactance, buses = grid_load._branches()
    flows = grid_load.distribution(ends, reactance, buses, outage=5)
    assert not flows[5].any()
    for bus in range(1, buses):  # what a bus feeds in leaves it over its branches
        leaving = flows[ends[:, 0] == bus].sum(0) - flows[ends[:, 1] == bus].sum(0)
        assert np.abs(leaving - np.eye(buses)[bus]).max() < 1e-4
    with pytest.raises(ValueError, match="falls apart"):
        grid_load.distribution(ends, reactance, buses, outage=18)


def test_missing_files_of_the_grid_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs the files of grid2op: pip install --no-deps"):
        load.require("grid_load")
