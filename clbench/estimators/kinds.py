"""Kinds of estimators by their methods: how each learns a batch, and its scores.

partial_fit, predict      scikit-learn: a batch at a time. Of classes it is given all outputs of the stream, at the
                          first update, where `partial_fit` takes `classes`
learn_one, predict_one    river: a sample at a time, features as a dictionary 0..D-1 -> number
train, predict_proba      CapyMOA, of its classes alone: a sample at a time, by a schema of D numeric features
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clbench.errors import UserError
from clbench.estimators import saved_state
from clbench.estimators.construction import build

Floats = NDArray[np.floating[Any]]
Labels = NDArray[Any]


class Kind(ABC):
    """An estimator with the calls of its kind.

    Args:
        target: the class.
        parameters: of the configuration.
        where: the beginning of messages.
        features: numbers of a sample, D.
        outputs: output units of the stream, C; labels are 0..C-1, or y has C numbers.
        numbers: whether y are numbers to predict.
        seed: returns a new seed.

    Attributes:
        estimator: the estimator, or None until it is set.
    """

    transient = ("_schema", "_libraries", "_takes_classes")

    def __init__(
        self,
        target: type,
        parameters: Mapping[str, Any],
        where: str,
        features: int,
        outputs: int,
        numbers: bool,
        seed: Callable[[], int],
    ) -> None:
        self.features, self.outputs, self.numbers = features, outputs, numbers
        self.estimator: Any = build(target, parameters, where, seed, **self.offered())
        if refused := self.refused():
            raise UserError(f"{where}: {refused}.")

    def offered(self) -> dict[str, Callable[[], Any]]:
        """Arguments of constructors of this kind that the stream determines."""
        return {}

    def refused(self) -> str | None:
        """Reason why the estimator cannot learn the stream; None if it can."""
        return None

    def copied(self) -> Callable[[], Any]:
        """A function that returns a new copy of the estimator as it is now."""
        try:
            content = pickle.dumps(self.estimator)
        except Exception:  # of an estimator with a lambda, for example
            held = copy.deepcopy(self.estimator)
            return lambda: copy.deepcopy(held)
        return lambda: pickle.loads(content)  # noqa: S301 - of this process's memory, and twice as fast as deepcopy

    def arrays(self) -> dict[str, torch.Tensor]:
        """Copies of the estimator's arrays by the names of its attributes; empty where its state is of another kind."""
        return {}

    @abstractmethod
    def learn(self, estimator: Any, x: Floats, y: Labels, first: bool) -> None:
        """One update.

        Args:
            estimator: of this kind.
            x: inputs, (N, D).
            y: labels, (N,), or numbers, (N, C).
            first: whether it is the estimator's first one.
        """

    @abstractmethod
    def scores(self, estimator: Any, x: Floats) -> NDArray[np.float64]:
        """Scores (N, C), higher is likelier: logarithms of probabilities, or what the estimator decides by. Of numbers
        the predictions."""


# ------------------------------------------------------------------------------------------------ scikit-learn
class PartialFit(Kind):
    """Estimators with `partial_fit`."""

    def refused(self) -> str | None:
        tags = getattr(self.estimator, "__sklearn_tags__", None)
        kind = getattr(self.estimator, "_estimator_type", None) if tags is None else tags().estimator_type
        wanted = "regressor" if self.numbers else "classifier"
        return None if kind in (None, wanted) else f"is a {kind}. Allowed: {wanted}s"

    @cached_property
    def _takes_classes(self) -> bool:
        return "classes" in inspect.signature(self.estimator.partial_fit).parameters

    @cached_property
    def _libraries(self) -> Any:
        from threadpoolctl import ThreadpoolController  # scikit-learn needs it

        return ThreadpoolController()

    def _threads(self) -> contextlib.AbstractContextManager[Any]:
        """The run's number of threads for the linear algebra of NumPy and SciPy too: sums depend on it."""
        limited: contextlib.AbstractContextManager[Any] = self._libraries.limit(
            limits=torch.get_num_threads(), user_api="blas"
        )
        return limited

    def arrays(self) -> dict[str, torch.Tensor]:
        return {name: torch.from_numpy(array) for name, array in saved_state.arrays(self.estimator).items()}

    def learn(self, estimator: Any, x: Floats, y: Labels, first: bool) -> None:
        told = first and not self.numbers and self._takes_classes
        known = {"classes": np.arange(self.outputs)} if told else {}
        with self._threads():
            estimator.partial_fit(x, y.ravel() if self.outputs == 1 else y, **known)

    def scores(self, estimator: Any, x: Floats) -> NDArray[np.float64]:
        if self.numbers:
            with self._threads():
                return np.asarray(estimator.predict(x), np.float64).reshape(len(x), self.outputs)
        with self._threads(), np.errstate(divide="ignore"):  # the logarithm of the frequency of a class to come
            columns = _columns(estimator, x)
        if columns is None:
            return _only(np.asarray(estimator.predict(x)), self.outputs)
        classes = getattr(estimator, "classes_", None)
        scores = np.full((len(x), self.outputs), -np.inf)
        scores[:, np.arange(columns.shape[1]) if classes is None else np.asarray(classes, np.int64)] = columns
        return scores


def _columns(estimator: Any, x: Floats) -> NDArray[Any] | None:
    """Scores of the estimator's classes, by what its `predict` decides by; None where it only names a class."""
    with contextlib.suppress(AttributeError, NotImplementedError):
        return np.asarray(estimator.predict_joint_log_proba(x))
    with contextlib.suppress(AttributeError, NotImplementedError):
        decided = np.asarray(estimator.decision_function(x))
        return np.stack([-decided, decided], 1) if decided.ndim == 1 else decided
    with contextlib.suppress(AttributeError, NotImplementedError):
        return _logarithms(np.asarray(estimator.predict_proba(x)))
    return None


# ------------------------------------------------------------------------------------------------ river
class LearnOne(Kind):
    """Estimators with `learn_one`."""

    def refused(self) -> str | None:
        if self.numbers and self.outputs > 1:
            return f"predicts one number, and a sample has {self.outputs}"
        if not _is_of(type(self.estimator), "river"):
            return None
        from river.base import Classifier, Regressor

        if not isinstance(self.estimator, Regressor if self.numbers else Classifier):
            return f"is no {'regressor' if self.numbers else 'classifier'}"
        if self.outputs > 2 and not self.estimator._multiclass:
            return (
                f"tells two classes apart, and the stream has {self.outputs}; put it into another as "
                "{name: river.multiclass:OneVsRestClassifier, classifier: {name: ...}}"
            )
        return None

    def learn(self, estimator: Any, x: Floats, y: Labels, first: bool) -> None:
        for row, label in zip(x.tolist(), y.ravel().tolist(), strict=True):
            estimator.learn_one(dict(enumerate(row)), label)

    def scores(self, estimator: Any, x: Floats) -> NDArray[np.float64]:
        rows = [dict(enumerate(row)) for row in x.tolist()]
        if self.numbers:
            return np.array([[estimator.predict_one(row)] for row in rows], np.float64)
        chances = np.zeros((len(rows), self.outputs))
        try:
            for n, row in enumerate(rows):
                for label, chance in estimator.predict_proba_one(row).items():
                    chances[n, int(label)] = chance
        except (NotImplementedError, AttributeError):
            return _only(np.array([_label(estimator.predict_one(row)) for row in rows]), self.outputs)
        return _logarithms(chances)


def _label(predicted: Any) -> int:
    return -1 if predicted is None else int(predicted)


# ------------------------------------------------------------------------------------------------ CapyMOA
class Moa(Kind):
    """Classifiers of CapyMOA, of which most run in a Java machine in this process."""

    @cached_property
    def _schema(self) -> Any:
        from capymoa.stream import Schema

        names = [f"x{n}" for n in range(self.features)]
        labels = {"class": [str(n) for n in range(self.outputs)]}
        return Schema.from_custom([*names, "class"], target="class", categories=labels, name="clbench")

    def refused(self) -> str | None:
        return "tells classes, and the data have numbers to predict" if self.numbers else None

    def offered(self) -> dict[str, Callable[[], Any]]:
        return {"schema": lambda: self._schema}

    def copied(self) -> Callable[[], Any]:
        held = self._copy(self.estimator)
        return lambda: self._copy(held)

    def _copy(self, estimator: Any) -> Any:
        if getattr(estimator, "moa_learner", None) is None:
            return copy.deepcopy(estimator, {id(self._schema): self._schema})
        other = copy.copy(estimator)
        other.moa_learner = estimator.moa_learner.copy()
        return other

    def learn(self, estimator: Any, x: Floats, y: Labels, first: bool) -> None:
        from capymoa.core import LabeledInstance

        for row, label in zip(x.astype(np.float64), y.tolist(), strict=True):
            estimator.train(LabeledInstance.from_array(self._schema, row, label))

    def scores(self, estimator: Any, x: Floats) -> NDArray[np.float64]:
        from capymoa.core import Instance

        chances = np.zeros((len(x), self.outputs))
        for n, row in enumerate(x.astype(np.float64)):
            predicted = estimator.predict_proba(Instance.from_array(self._schema, row))
            if predicted is not None:
                chances[n, : len(predicted)] = predicted
        return _logarithms(chances)


# ------------------------------------------------------------------------------------------------ all
def kind_of(target: type) -> type[Kind] | None:
    """The kind of an estimator's class; None for another class."""
    if _is_of(target, "capymoa") and _has(target, "train", "predict_proba"):
        return Moa
    if _has(target, "partial_fit", "predict"):
        return PartialFit
    return LearnOne if _has(target, "learn_one", "predict_one") else None


def _has(target: type, *methods: str) -> bool:
    return all(callable(getattr(target, method, None)) for method in methods)


def _is_of(target: type, package: str) -> bool:
    return any(base.__module__.partition(".")[0] == package for base in target.__mro__)


def _logarithms(chances: NDArray[Any]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(chances.astype(np.float64)))


def _only(labels: NDArray[Any], outputs: int) -> NDArray[np.float64]:
    """1 for a predicted class and 0 for others, (N, C); -1 is no prediction."""
    return np.asarray(labels.reshape(-1, 1) == np.arange(outputs), np.float64)
