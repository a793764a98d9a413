"""Several methods as one strategy, as the literature composes them: replay and a penalty, replay and a projection.

In a file, `strategy: [er, {name: ewc, strength: 100}]`; its name is `er+ewc`, its hyper-parameters are below the names.
One part may define the training objective (`loss`, which data) and one the prediction (`predict`); the others add
terms that compose: penalties, changes of gradients, an optimiser, work before and after an experience.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pydantic

from clbench.config.training import Parameters
from clbench.errors import UserError
from clbench.schema import mistake
from clbench.strategy import Batch, Experience, Knowledge, Learner, Memory, SelfDrivenLearner, Setup, Strategy

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn
from clbench.config.strategy_names import key_of, parts_of

_LEARNT, _PREDICTED = ("loss",), ("predict", "available")
"""Methods that only one part of a composition may override."""


class _Composition(pydantic.BaseModel):
    """Hyper-parameters of a composition: those of each part below its name."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True)
    maker_key: ClassVar[str | None] = None

    @pydantic.model_validator(mode="after")
    def _one_optimizer(self) -> _Composition:
        with_one = [key for key, part in self if getattr(part, "optimizer", None) is not None]
        with_one += [self.maker_key] if self.maker_key else []
        if len(with_one) > 1:
            raise mistake(f"got two optimisers, of '{with_one[0]}' and '{with_one[1]}'. Allowed: one")
        return self


def compose(name: str, parts: list[type[Strategy]]) -> type[Learner]:
    """The strategy made of several.

    Args:
        name: of the whole, the names of its parts with `+` between them.
        parts: the class of each.

    Raises:
        UserError: parts that do not compose.
    """
    names = parts_of(name)
    keys = [key_of(part) for part in names]
    _check(name, keys, parts)
    fields: dict[str, Any] = {}
    for key, part in zip(keys, parts, strict=True):
        required = any(field.is_required() for field in part.Config.model_fields.values())
        fields[key] = (part.Config, ... if required else part.Config())
    config = pydantic.create_model(name, __base__=_Composition, **fields)
    asked = next((i for i, part in enumerate(parts) if _overrides_any(part, _PREDICTED)), None)
    main = next((i for i, part in enumerate(parts) if _defines_objective(part)), asked or 0)
    makers = [key for key, part in zip(keys, parts, strict=True) if _overrides(part, "optimizer_maker")]
    config.maker_key = makers[0] if makers else None
    body: dict[str, Any] = {
        "parts": dict(zip(keys, parts, strict=True)),
        "main_key": keys[main],
        "asked_key": keys[main if asked is None else asked],
        "maker_key": config.maker_key,
        "access": parts[main].access,
        "Config": config,
    }
    # Evaluation takes a faster path where the model predicts by itself.
    if asked is not None and _overrides(parts[asked], "predict"):
        body["predict"] = _predict
    return type(name, (Composed,), body)


def _overrides(part: type[Strategy], method: str) -> bool:
    member = getattr(part, method)
    return getattr(member, "__func__", member) is not getattr(
        getattr(Strategy, method), "__func__", getattr(Strategy, method)
    )


def _defines_objective(part: type[Strategy]) -> bool:
    return part.access != "experience" or _overrides_any(part, _LEARNT)


def _overrides_any(part: type[Strategy], methods: tuple[str, ...]) -> bool:
    return any(_overrides(part, method) for method in methods)


def _check(name: str, keys: list[str], parts: list[type[Strategy]]) -> None:
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise UserError(f"strategy '{name}': '{twice}' is named twice.")
    for key, part in zip(keys, parts, strict=True):
        if issubclass(part, SelfDrivenLearner) or _overrides(part, "step"):
            raise UserError(f"strategy '{name}': '{key}' has its own training step and does not compose.")
    both = [key for key, part in zip(keys, parts, strict=True) if _defines_objective(part)]
    if len(both) > 1:
        raise UserError(f"strategy '{name}': '{both[0]}' and '{both[1]}' both define the training objective.")
    asked = [key for key, part in zip(keys, parts, strict=True) if _overrides_any(part, _PREDICTED)]
    if len(asked) > 1:
        raise UserError(f"strategy '{name}': '{asked[0]}' and '{asked[1]}' both define the prediction.")
    other = [key for key, part in zip(keys, parts, strict=True) if not part.learns_by_outputs]
    looks = [key for key, part in zip(keys, parts, strict=True) if part.differentiates_outputs]
    if other and looks:
        reason = f"'{looks[0]}' needs gradients of the model's outputs, by which '{other[0]}' does not learn."
        raise UserError(f"strategy '{name}': {reason}")
    makers = [key for key, part in zip(keys, parts, strict=True) if _overrides(part, "optimizer_maker")]
    if len(makers) > 1:
        raise UserError(f"strategy '{name}': two optimisers, '{makers[0]}' and '{makers[1]}'.")


class Composed(Learner):
    """Several strategies with one model and one optimiser.

    Attributes:
        parts: key -> class.
        main_key: the part that defines the training objective; else the one that defines the prediction, else the
            first. It holds the model.
        asked_key: the part that defines the prediction; the main one where none does.
        maker_key: the part that brings the optimiser, if one does.
        members: key -> strategy.
    """

    parts: ClassVar[dict[str, type[Strategy]]]
    main_key: ClassVar[str]
    asked_key: ClassVar[str]
    maker_key: ClassVar[str | None]

    @classmethod
    def needs(cls, config: Any) -> frozenset[Knowledge]:
        return frozenset().union(*(part.needs(getattr(config, key)) for key, part in cls.parts.items()))

    @classmethod
    def optimizer_maker(cls, config: Any, setup: Setup) -> Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]:
        if cls.maker_key is None:
            return setup.make_optimizer
        return cls.parts[cls.maker_key].optimizer_maker(getattr(config, cls.maker_key), setup)

    def __init__(self, config: Any, setup: Setup) -> None:
        super().__init__(config, setup)
        maker = self.recipe_maker(config, setup)
        self.main = main = self._member(self.main_key, maker, setup.model)
        others = [key for key in self.parts if key != self.main_key]
        self.members = {self.main_key: main}
        self.members |= {key: self._member(key, lambda _: main.optimizer, main.model) for key in others}
        self._follow()

    def _member(self, key: str, maker: Any, model: nn.Module) -> Strategy:
        new_generator = self.setup.new_generator  # not `self`, which the member would keep alive in a cycle
        setup = replace(self.setup, model=model, generator=new_generator(key), make_optimizer=maker)
        setup = replace(setup, new_generator=lambda name: new_generator(f"{key}/{name}"))
        part = self.parts[key]
        member = part(getattr(self.config, key), setup)
        member.maker = maker
        return member

    def _follow(self) -> None:
        """Shares the model and the optimiser of the main part, which may have replaced them, with all members."""
        for member in self.members.values():
            member.model, member.optimizer = self.main.model, self.main.optimizer

    @property
    def model(self) -> nn.Module:  # type: ignore[override]
        return self.main.model

    @property
    def optimizer(self) -> torch.optim.Optimizer:  # type: ignore[override]
        return self.main.optimizer

    def begin_experience(self, experience: Experience) -> None:
        self.main.begin_experience(experience)
        self._follow()
        for member in self._others():
            member.begin_experience(experience)

    def end_experience(self, experience: Experience) -> None:
        for member in self.members.values():
            member.end_experience(experience)
            self._follow()

    def loss(self, batch: Batch) -> Tensor:
        return self.main.loss(batch)

    def penalty(self) -> Tensor | None:
        terms = [term for member in self.members.values() if (term := member.penalty()) is not None]
        return sum(terms[1:], start=terms[0]) if terms else None

    def before_update(self, batch: Batch) -> None:
        for member in self.members.values():
            member.before_update(batch)

    def after_update(self, batch: Batch) -> None:
        for member in self.members.values():
            member.after_update(batch)

    def available(self) -> bool:
        return self.members[self.asked_key].available()

    def refresh(self) -> None:
        for member in self.members.values():
            member.refresh()

    def held(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        index, task = zip(*(member.held() for member in self.members.values()), strict=True)
        return np.concatenate(index), np.concatenate(task)

    def memory(self) -> Memory:
        held = [member.memory() for member in self.members.values()]
        samples, taken = [m.samples for m in held], [m.bytes for m in held]
        return Memory(
            None if None in samples else sum(n or 0 for n in samples),
            None if None in taken else sum(n or 0 for n in taken),
        )

    def report(self) -> dict[str, float]:
        return {f"{key}.{name}": v for key, member in self.members.items() for name, v in member.report().items()}

    def state_dict(self) -> dict[str, Any]:
        states = {key: member.state_dict() for key, member in self.members.items()}
        for member in states:
            if member != self.main_key:
                del states[member]["model"], states[member]["optimizer"]
        return states

    def load_state_dict(self, state: dict[str, Any]) -> None:
        shared = {name: state[self.main_key][name] for name in ("model", "optimizer")}
        self.main.load_state_dict(state[self.main_key])
        self._follow()
        for key, member in self.members.items():
            if member is not self.main:
                member.load_state_dict({**shared, **state[key]})

    def _others(self) -> list[Strategy]:
        return [member for member in self.members.values() if member is not self.main]


def _predict(self: Composed, model: nn.Module, x: Tensor, task: Tensor | None) -> Tensor | None:
    return self.members[self.asked_key].predict(model, x, task)


def optimizer_of(config: Any) -> Any:
    """The optimiser that a strategy's hyper-parameters name instead of the benchmark's, or None."""
    if isinstance(config, _Composition):
        return next(
            (optimizer for _, part in config if (optimizer := getattr(part, "optimizer", None)) is not None), None
        )
    return config.optimizer if isinstance(config, Parameters) else None
