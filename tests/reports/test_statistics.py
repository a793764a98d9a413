"""Statistics over seeds: numbers worked by hand, scipy's own tools as the oracle, promises by simulation."""

from __future__ import annotations

import math
import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from clbench.reports import statistics
from clbench.rng import Generator

VALUES = st.lists(st.integers(0, 1000).map(lambda i: i / 1000), min_size=2, max_size=30)


def sampling(p: float, trials: int) -> float:
    """Four standard errors of a share over so many trials: a right one is missed in 1 of 16,000 seeds."""
    return 4 * math.sqrt(p * (1 - p) / trials)


# ------------------------------------------------------------------------------------------------ one side
def test_summary_by_hand() -> None:
    found = statistics.summary([1.0, 2.0, 3.0, 4.0])
    std = math.sqrt((2.25 + 0.25 + 0.25 + 2.25) / 3)
    half = 3.182446305284 * std / 2  # Student t, 3 degrees of freedom, 0.975
    assert (found["mean"], found["n"]) == (2.5, 4)
    assert found["std"] == pytest.approx(std, rel=1e-15)
    assert found["ci95_lo"] == pytest.approx(2.5 - half, rel=1e-12)
    assert found["ci95_hi"] == pytest.approx(2.5 + half, rel=1e-12)


def test_what_is_missing_is_none() -> None:
    nothing = {"mean": None, "std": None, "ci95_lo": None, "ci95_hi": None}
    assert statistics.summary([]) == {**nothing, "n": 0}
    assert statistics.summary([0.0, None, 0.0]) == {**nothing, "n": 2}
    assert statistics.summary([0.25]) == {**nothing, "mean": 0.25, "n": 1}
    assert statistics.interquartile_mean([0.5, None]) is None
    assert statistics.interquartile_interval([0.5, None, 0.5]) is None
    assert statistics.probability_of_improvement([], [0.5]) is None
    assert statistics.probability_of_improvement([0.5, None], [0.5]) is None


@given(VALUES)
def test_summary_is_what_scipy_says(values: list[float]) -> None:
    found = statistics.summary(values)
    assert found["mean"] == pytest.approx(np.mean(values), abs=1e-12)
    assert found["std"] == pytest.approx(np.std(values, ddof=1), abs=1e-12)
    if len(set(values)) > 1:
        low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
        assert (found["ci95_lo"], found["ci95_hi"]) == (pytest.approx(low, abs=1e-10), pytest.approx(high, abs=1e-10))


@given(VALUES)
def test_interquartile_mean_is_what_scipy_says(values: list[float]) -> None:
    assert statistics.interquartile_mean(values) == pytest.approx(stats.trim_mean(values, 0.25), abs=1e-12)


@given(VALUES, st.integers(0, 2**32))
def test_the_order_of_seeds_is_nothing(values: list[float], seed: int) -> None:
    mixed = values.copy()
    random.Random(seed).shuffle(mixed)
    assert statistics.summary(mixed) == statistics.summary(values)
    assert statistics.interquartile_mean(mixed) == statistics.interquartile_mean(values)


# ------------------------------------------------------------------------------------------------ the bootstrap
@pytest.mark.parametrize("n", [2, 3, 5, 9])
def test_bootstrap_against_a_plain_loop(n: int) -> None:
    """Raw words of the generator, Python's integers and exactly rounded sums; the order statistics 50 and 1950."""
    values = [i * i / 64 for i in range(n)]
    words = [int(word) for word in Generator(3, "bootstrap", n).raw(1999 * n)]
    means = []
    for r in range(1999):
        drawn = sorted(values[(word >> 11) * n >> 53] for word in words[r * n : (r + 1) * n])
        middle = drawn[n // 4 : n - n // 4]
        means.append(math.fsum(middle) / len(middle))
    means.sort()
    shuffled = values[::-1]
    assert statistics.interquartile_interval(shuffled, seed=3) == (means[49], means[1949])


def test_bootstrap_of_another_seed_is_another() -> None:
    values = [0.1, 0.2, 0.4, 0.8, 0.9]
    one, two = (statistics.interquartile_interval(values, seed) for seed in (0, 1))
    assert one == statistics.interquartile_interval(values)
    assert one is not None
    assert two is not None
    assert one == pytest.approx(two, abs=0.1)
    many = [i / 97 for i in range(40)]
    assert statistics.interquartile_interval(many, 0) != statistics.interquartile_interval(many, 1)


# ------------------------------------------------------------------------------------------------ coverage
@pytest.mark.parametrize("n", [2, 5, 20])
def test_t_intervals_cover_what_they_say(n: int) -> None:
    trials = 4000
    rows = Generator(1, "coverage", n).normal(n * trials).reshape(trials, n)
    covered = 0
    for row in rows:
        found = statistics.summary(row.tolist())
        assert found["ci95_lo"] is not None
        assert found["ci95_hi"] is not None
        covered += found["ci95_lo"] <= 0 <= found["ci95_hi"]
    assert covered / trials == pytest.approx(0.95, abs=sampling(0.95, trials))


@pytest.mark.parametrize(("n", "documented"), [(3, 0.77), (5, 0.91), (10, 0.94)])
def test_bootstrap_intervals_cover_what_is_documented(n: int, documented: float) -> None:
    """The documented share has an error of its own, that of 2,000 trials."""
    trials = 1000
    rows = Generator(2, "coverage", n).normal(n * trials).reshape(trials, n)
    covered = 0
    for row in rows:
        found = statistics.interquartile_interval(row.tolist())
        assert found is not None
        covered += found[0] <= 0 <= found[1]
    error = math.hypot(sampling(documented, trials), sampling(documented, 2000))
    assert covered / trials == pytest.approx(documented, abs=error)


# ------------------------------------------------------------------------------------------------ pairs
def test_difference_by_hand() -> None:
    a = {0: 0.5, 1: 0.75, 2: 1.0, 3: None, 5: 0.0}
    b = {0: 0.25, 1: 0.25, 2: 0.25, 3: 0.5, 4: 0.0, 5: None}
    found = statistics.difference(a, b)  # 0.25, 0.5, 0.75
    half = 0.95 / math.sqrt(2 * 0.975 * 0.025) * 0.25 / math.sqrt(3)  # the quantile of 2 degrees of freedom is closed
    assert found.seeds == (0, 1, 2)
    assert (found.mean, found.std, found.effect) == (0.5, 0.25, 2.0)
    assert found.interval == (pytest.approx(0.5 - half, rel=1e-12), pytest.approx(0.5 + half, rel=1e-12))
    assert not found.shown, "0.5 ± 0.62"
    assert statistics.difference({0: 0.5, 1: 0.75, 2: 1.0}, {0: 0.25, 1: 0.5, 2: 0.75}).shown, "0.25 in each seed"


def test_equal_values_and_roundings_are_no_difference() -> None:
    found = statistics.difference({0: 0.1 + 0.2, 1: 0.5}, {0: 0.3, 1: 0.5})
    assert (found.mean, found.std, found.interval) == (0.0, 0.0, (0.0, 0.0))
    assert not found.shown
    assert found.effect is None
    assert statistics.probability_of_improvement([0.1 + 0.2], [0.3]) == 0.5


def test_fewer_than_two_pairs() -> None:
    none, one = statistics.difference({0: 1.0}, {1: 1.0}), statistics.difference({0: 1.0}, {0: 0.5})
    assert (none.seeds, none.mean, none.interval, none.shown) == ((), None, None, False)
    assert (one.seeds, one.mean, one.interval, one.shown) == ((0,), 0.5, None, False)


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), min_size=2, max_size=20))
def test_difference_is_what_scipys_paired_t_test_says(values: list[tuple[int, int]]) -> None:
    if len({x - y for x, y in values}) == 1:
        return  # scipy has no interval without a deviation
    a, b = ([v[i] / 64 for v in values] for i in (0, 1))
    found = statistics.difference(dict(enumerate(a)), dict(enumerate(b)))
    theirs = stats.ttest_rel(a, b)
    low, high = theirs.confidence_interval(0.95)
    assert found.interval == (pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9))
    if abs(theirs.pvalue - 0.05) > 1e-9:
        assert found.shown == (theirs.pvalue < 0.05)


def test_probability_of_improvement_by_hand() -> None:
    # 0.5 beats 0.25 and ties with 0.5; 0.75 beats both: 3.5 of 4.
    assert statistics.probability_of_improvement([0.5, 0.75], [0.25, 0.5]) == 0.875


@given(VALUES, VALUES)
def test_probability_of_improvement_is_mann_whitneys_u(a: list[float], b: list[float]) -> None:
    with np.errstate(all="ignore"):
        u = stats.mannwhitneyu(a, b, method="asymptotic").statistic
    assert statistics.probability_of_improvement(a, b) == pytest.approx(u / (len(a) * len(b)), abs=1e-12)


# ------------------------------------------------------------------------------------------------ how many seeds
@pytest.mark.parametrize(("effect", "n"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)])
def test_seeds_needed_as_published(effect: float, n: int) -> None:
    """Figures of G*Power 3 for two-sided dependent means, alpha 0.05, power 0.8 (Faul et al. 2007)."""
    assert statistics.seeds_needed(effect) == statistics.seeds_needed(-effect) == n


@given(st.floats(0.03, 30), st.sampled_from([0.5, 0.8, 0.95]))
def test_seeds_needed_are_the_fewest(effect: float, wanted: float) -> None:
    n = statistics.seeds_needed(effect, wanted)
    if n is None:
        assert statistics.power(effect, statistics.MOST_SEEDS) < wanted
        return
    assert statistics.power(effect, n) >= wanted
    assert n == 2 or statistics.power(effect, n - 1) < wanted


def test_seeds_that_cannot_be_told() -> None:
    assert statistics.seeds_needed(None) is None
    assert statistics.seeds_needed(0.0) is None
    assert statistics.seeds_needed(0.027) is None, "(2.8 / 0.027)^2 = 10,750"
    assert statistics.seeds_needed(0.029) == pytest.approx((2.8016 / 0.029) ** 2, abs=5), "the normal approximation"
    assert statistics.seeds_needed(1e9) == statistics.seeds_needed(1e300) == 2


@pytest.mark.parametrize(("effect", "n"), [(1.0, 10), (0.5, 34), (0.0, 5), (2.0, 3)])
def test_power_by_simulation(effect: float, n: int) -> None:
    trials = 4000
    rows = effect + Generator(4, "power", n).normal(n * trials).reshape(trials, n)
    zeros = dict.fromkeys(range(n), 0.0)
    shown = sum(statistics.difference(dict(enumerate(row.tolist())), zeros).shown for row in rows)
    expected = statistics.power(effect, n)
    assert shown / trials == pytest.approx(expected, abs=sampling(expected, trials))


# ------------------------------------------------------------------------------------------------ imports
def test_no_torch() -> None:
    modules = "clbench.reports.leaderboard, clbench.reports.comparison, clbench.reports.statistics"
    code = f"import sys, {modules}\nassert 'torch' not in sys.modules\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
