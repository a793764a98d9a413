"""Methods for forecasts: their pure parts against oracles."""

from __future__ import annotations

import importlib.util
import math

import numpy as np
import pytest
import torch

from clbench.errors import UserError
from clbench.rng import Generator
from clbench.strategies.refit import ridge_regression
from clbench.strategies.shared.drift import Adwin, PageHinkley

RIVER = importlib.util.find_spec("river") is not None
NCPS = importlib.util.find_spec("ncps") is not None


def first_alarm(test: PageHinkley | Adwin, values: list[float]) -> int | None:
    return next((i for i, value in enumerate(values) if test.add(value)), None)


def test_page_hinkley_is_its_definition() -> None:
    values = (Generator(0, "test").normal(200) * 0.3).tolist()
    values[120:] = [v + 1.0 for v in values[120:]]

    def by_hand(n: int) -> bool:
        sums = [0.0]
        for i in range(n):
            sums.append(sums[-1] + values[i] - math.fsum(values[: i + 1]) / (i + 1) - 0.2)
        return sums[-1] - min(sums) > 3.0

    expected = next(n - 1 for n in range(1, 201) if by_hand(n))
    assert first_alarm(PageHinkley(0.2, 3.0), values) == expected
    assert 120 <= expected < 150


def test_page_hinkley_is_silent_where_nothing_rises() -> None:
    falling = [10.0 - 0.1 * i for i in range(100)]
    assert first_alarm(PageHinkley(0.1, 1.0), falling) is None


@pytest.mark.skipif(not RIVER, reason="river is not installed")
def test_adwin_alarms_at_a_rise_and_not_at_a_fall() -> None:
    noise = Generator(1, "test").normal(200) * 0.3
    rise = np.where(np.arange(200) < 100, 0.0, 2.0)
    alarm = first_alarm(Adwin(0.002), (noise + rise).tolist())
    assert alarm is not None
    assert 100 <= alarm < 130
    assert first_alarm(Adwin(0.002), (noise - rise).tolist()) is None


def test_a_missing_river_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "river.drift", None)
    with pytest.raises(UserError, match="needs the package river: pip install"):
        Adwin(0.002)


def test_ridge_regression_is_that_of_another_library() -> None:
    from sklearn.linear_model import Ridge

    draws = Generator(2, "test").normal(50 * 9).reshape(50, 9)
    x, y = draws[:, :6] + 3.0, draws[:, 6:] - 1.0
    weight, bias = ridge_regression(torch.from_numpy(x), torch.from_numpy(y), 2.5)
    other = Ridge(alpha=2.5).fit(x, y)
    assert np.allclose(weight, other.coef_, atol=1e-10)
    assert np.allclose(bias, other.intercept_, atol=1e-10)
