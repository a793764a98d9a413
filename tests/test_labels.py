"""Names of rows that stand side by side: what tells two apart is said, what is the same is not."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from clbench.labels import Labels, distinguished

VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(0, 2), st.sampled_from([0.5, "a", "b"]), st.lists(st.integers(0, 1))
)
SETTINGS = st.dictionaries(
    st.sampled_from(["memory", "lr", "optimizer", "seeds"]),
    st.one_of(VALUES, st.dictionaries(st.sampled_from(["lr", "name"]), VALUES, max_size=2)),
    max_size=4,
)


def without_nothing(value: Any) -> Any:
    """Settings as they count: a key without a value is as good as none."""
    if isinstance(value, dict):
        return {key: below for key, item in value.items() if (below := without_nothing(item)) not in (None, {})}
    return value


@given(st.lists(st.tuples(st.sampled_from(["er", "ewc"]), SETTINGS), max_size=5))
def test_two_rows_look_alike_only_where_they_are(rows: list[tuple[str, dict[str, Any]]]) -> None:
    labels = distinguished(rows)
    for (name, settings), label in zip(rows, labels, strict=True):
        assert label == name or label.startswith(f"{name} (")
        for (other, others), another in zip(rows, labels, strict=True):
            same = name == other and repr(sorted_all(settings)) == repr(sorted_all(others))
            assert (label == another) == same, (label, another)


def sorted_all(value: Any) -> Any:
    value = without_nothing(value)
    return sorted((key, sorted_all(item)) for key, item in value.items()) if isinstance(value, dict) else value


@given(st.sampled_from(["er", "ewc"]), SETTINGS)
def test_one_of_a_kind_is_its_name(name: str, settings: dict[str, Any]) -> None:
    assert distinguished([(name, settings), ("other", {}), (name, settings)]) == [name, "other", name]


def test_only_what_differs_is_said_and_by_its_shortest_name() -> None:
    one = {"memory": 500, "loss": "mean", "optimizer": {"name": "sgd", "lr": 0.1}, "seeds": {"order": None}}
    two = {"memory": 200, "loss": "mean", "optimizer": {"name": "sgd", "lr": 0.2}, "seeds": {"order": 5}}
    assert distinguished([("er", one), ("er", two)]) == ["er (memory 500, lr 0.1)", "er (memory 200, lr 0.2, order 5)"]
    assert distinguished([("er", {"lr": 1, "optimizer": {"lr": 2}}), ("er", {"lr": 2, "optimizer": {"lr": 1}})]) == [
        "er (lr 1, optimizer.lr 2)", "er (lr 2, optimizer.lr 1)",
    ]  # fmt: skip


def test_the_protocol_of_tuning_is_said_where_nothing_else_differs() -> None:
    plain: dict[str, Any] = {"memory": 5, "tuning": None, "tuning_protocol": None}
    few, many = ({**plain, "tuning": "first", "tuning_protocol": {"by": "first", "trials": n}} for n in (3, 9))
    assert distinguished([("er", plain), ("er", few)]) == ["er", "er (tuning first)"]
    assert distinguished([("er", few), ("er", many)]) == ["er (trials 3)", "er (trials 9)"]


def test_a_name_for_one_that_was_not_among_them_has_the_same_keys() -> None:
    labels = Labels([("er", {"memory": 1, "lr": 1}), ("er", {"memory": 9, "lr": 1})])
    assert labels("er", {"memory": 4, "lr": 7}) == "er (memory 4)"
    assert labels("unheard_of", {"memory": 4}) == "unheard_of"
