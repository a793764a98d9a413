"""Learning rates of named parts: the parameters of an optimiser in groups, each with its multiplier."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from clbench.errors import UserError, hint

Parameters = Iterable[nn.Parameter] | Iterable[tuple[str, nn.Parameter]]

_OF_LAYERS = ("front", "head")


class Rates:
    """Multipliers by the names of parameters; see `training.rates`.

    Args:
        rates: part -> multiplier; empty for none.
        model: the network as it was built, which tells the names of parameters without one, and its last linear layer.

    Attributes:
        rates: part -> multiplier.
    """

    def __init__(self, rates: Mapping[str, float], model: nn.Module) -> None:
        self.rates = dict(rates)
        self._names = {id(p): name for name, p in model.named_parameters()} if rates else {}
        layers = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
        self._head = next(reversed(layers), "")
        self._of_head = {id(p) for p in layers[self._head].parameters()} if layers else set()
        self._used: set[str] = set()
        self._modules: set[str] = set()

    def groups(self, parameters: Parameters) -> list[Any]:
        """Parameters as torch's optimisers take them: as they come where there are no rates, else a group for each
        rate, in the order of the first parameters, with the key "rate".

        Args:
            parameters: with or without their names; groups stay as they are.

        Raises:
            UserError: a parameter without a name, or all of them frozen.
        """
        items: list[Any] = list(parameters)
        pairs = [item if isinstance(item, tuple) else ("", item) for item in items]
        if not self.rates or any(isinstance(item, dict) for item in items):
            return [p for _, p in pairs]
        named = [(name or self._names.get(id(p), ""), p) for name, p in pairs]
        if any(not name for name, _ in named):
            raise UserError("training.rates: the strategy makes its optimiser of parameters without names.")
        head = self._names_of_head(named)
        groups: dict[float, list[nn.Parameter]] = {}
        for name, p in named:
            rate = self._rate(name, name in head)
            p.requires_grad_(p.requires_grad and rate > 0)
            groups.setdefault(rate, []).append(p)
        if groups and not any(groups):
            raise UserError("training.rates: every parameter has the rate 0, so that nothing learns.")
        return [{"params": of_rate, "rate": rate} for rate, of_rate in groups.items()]

    def _names_of_head(self, named: list[tuple[str, nn.Parameter]]) -> set[str]:
        """Names of the last layer's parameters: those of the network's last linear layer, of what has taken its place,
        or of that layer in a larger network; else those of the last module. An optimiser of the front alone has
        none."""
        of_module = {name: name.rpartition(".")[0] for name, _ in named}
        exact = {name for name, p in named if id(p) in self._of_head or of_module[name] == self._head}
        if exact or all(id(p) in self._names for _, p in named):
            return exact
        within = {name for name in of_module if of_module[name].endswith(f".{self._head}")} if self._head else set()
        last = of_module[named[-1][0]]
        return within or {name for name in of_module if of_module[name] == last}

    def _rate(self, name: str, of_head: bool) -> float:
        steps = name.split(".")
        prefixes = [".".join(steps[:n]) for n in range(len(steps), 0, -1)]
        self._modules.update(prefixes)
        named = [prefix for prefix in prefixes if prefix in self.rates and prefix not in _OF_LAYERS]
        part = named[0] if named else _OF_LAYERS[of_head]
        self._used.update({*named, _OF_LAYERS[of_head]})
        return self.rates.get(part, 1.0)

    def check(self, strategy: str) -> None:
        """Checks that each part has been met; to be called once the strategy has made its optimiser.

        Raises:
            UserError: an unknown part.
        """
        if not self._modules:  # without an optimiser
            return
        allowed = [*_OF_LAYERS, *sorted(self._modules, key=lambda name: (name.count("."), name))]
        unknown = [part for part in self.rates if part not in self._used]
        if unknown:
            tops = [name for name in allowed if "." not in name]
            raise UserError(
                *(
                    f"training.rates: got '{part}', no part of the network under '{strategy}'.{hint(part, allowed)} "
                    f"Allowed: {', '.join(tops)}, and what is within these."
                    for part in unknown
                )
            )
