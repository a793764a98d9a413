"""KappaTune: the best conditioned weight tensors of a pretrained network learn, all others are frozen.

    kappa(W) = sigma_max(W) / sigma_min(W)     of W as a matrix; a convolution (out, in, h, w) as (out, in h w)

and the tensors of lowest kappa learn. Well conditioned tensors are said to be less specialised, with room to move.

Reference: Ludwig 2025, "The condition number as a scale-invariant proxy for information encoding in neural units"
(arXiv 2506.16289).

Candidates are the weights of two dimensions and more before the head. Those with one row or one column, such as a class
token, are none: their kappa is 1, whatever they hold. The head always learns; biases and normalisations are frozen.

    select   `lowest` is the method. `highest`, `random` and `last` (the layers nearest to the head) are its controls at
             an equal number of parameters: without them a gain may be that of training less
    share    the budget is a share of the candidates' parameters. Tensors are taken in the order of `select` while they
             fit; the one that does not fit any more learns in its first rows alone, as many as fit (of the first
             tensor one row at least). So all four selections train equally many parameters, but for less than a row of
             one tensor
    tensors  the budget is a number of whole tensors, as in the paper, of whatever size
    rank     low-rank adapters (LoRA) learn in the layers of the selected tensors, which are frozen too: the paper's
             variant for large models. Adapters are whole: the budget is `tensors`, or a share of the parameters that
             adapters of all candidates would have, and the first that does not fit ends the selection

Differs from the paper and its code: (1) kappa is computed in double precision, and is at most 1/eps = 4.5e15, for a
matrix without full rank too (the code adds 1e-8 to sigma_min for adapters and nothing otherwise); (2) convolutions are
reshaped, where the code takes singular values of each kernel; (3) the default budget is a fifth of the candidates'
parameters (the code: 100 tensors, or a fifth of the linear layers for adapters); (4) the head, which language models
have already, always learns; (5) the frozen part is in evaluation mode; (6) `at: experience` is not in the paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pydantic
from pydantic import Field

from clbench.config.training import Parameters
from clbench.errors import UserError
from clbench.lazy import torch
from clbench.rng import Generator
from clbench.schema import Share, mistake
from clbench.strategies.shared.adapters import Adapters, activate, freeze_all_but, linear_layers
from clbench.strategy import Batch, Experience, Knowledge, Memory, Setup, Strategy

if TYPE_CHECKING:
    from torch import Tensor, nn

_ADAPTER = "adapter"
_SHARE = 0.2


class KappaTuneConfig(Parameters):
    """Hyper-parameters of KappaTune."""

    select: Literal["lowest", "highest", "random", "last"] = "lowest"
    """Tensors that learn: of lowest or highest condition number, at random, or nearest to the head."""
    share: Share | None = None
    """Share of the candidates' parameters that learns; default 0.2."""
    tensors: Annotated[int, Field(ge=1)] | None = None
    """Number of tensors that learn, instead of `share`."""
    at: Literal["start", "experience"] = "start"
    """Selection once, by the initial weights, or again at the start of each experience."""
    rank: Annotated[int, Field(ge=1)] | None = None
    """Adapters of this rank learn in the selected layers, and their weights do not."""
    alpha: Annotated[float, Field(gt=0)] = 16.0
    """Of adapters: their output is multiplied by alpha / rank."""

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> KappaTuneConfig:
        if self.share is not None and self.tensors is not None:
            raise mistake("got both 'share' and 'tensors'. Allowed: one of them; null unsets a key")
        if self.rank is None and self.alpha != 16.0:
            raise mistake("'alpha' is for adapters; set 'rank' too")
        if self.rank is not None and self.at == "experience":
            raise mistake("got 'experience'. Allowed with adapters, which stay where they are: start", "at")
        return self


def matrix(weight: Tensor) -> Tensor | None:
    """A weight as a matrix; None for one that is a single row or column.

    >>> matrix(torch.zeros(8, 3, 2, 2)).shape, matrix(torch.zeros(1, 5, 4)).shape, matrix(torch.zeros(1, 1, 4))
    (torch.Size([8, 12]), torch.Size([5, 4]), None)
    """
    weight = table(weight)
    if weight.ndim < 2:
        return None
    flat = weight.reshape(len(weight), -1)
    return flat if min(flat.shape) > 1 else None


def table(weight: Tensor) -> Tensor:
    """A view of a weight whose first dimension is its rows: (T, width) of a table of positions (1, T, width)."""
    while weight.ndim > 2 and weight.shape[0] == 1:
        weight = weight[0]
    return weight


def candidates(model: nn.Module, head: str, only: Sequence[str] | None = None) -> dict[str, nn.Parameter]:
    """The parameters that may be selected, by name, in the order of the network.

    Args:
        model: the network.
        head: name of its last layer.
        only: names of those to choose among; default: all.
    """
    return {
        name: p
        for name, p in model.named_parameters()
        if not name.startswith(f"{head}.") and matrix(p.detach()) is not None and (only is None or name in only)
    }


def condition_number(weight: Tensor) -> float:
    """sigma_max / sigma_min of a matrix in double precision, at most 1/eps, which a matrix without full rank has.

    >>> condition_number(torch.diag(torch.tensor([4.0, 2.0]))), condition_number(torch.zeros(2, 2)) > 1e15
    (2.0, True)
    """
    sigma = torch.linalg.svdvals(weight.detach().to(torch.float64))
    least = float(sigma[0]) * torch.finfo(torch.float64).eps
    return float(sigma[0]) / max(float(sigma[-1]), least) if least else 1 / torch.finfo(torch.float64).eps


def ordered(kappa: Mapping[str, float], select: str, generator: Generator) -> list[str]:
    """The names of tensors in the order in which they are taken.

    Args:
        kappa: of each tensor, in the order of the network.
        select: see `KappaTuneConfig`.
        generator: for `random`.
    """
    names = list(kappa)
    if select == "random":
        return [names[i] for i in generator.permutation(len(names)).tolist()]
    if select == "last":
        return names[::-1]
    return sorted(names, key=lambda name: kappa[name] if select == "lowest" else -kappa[name])


def rows_within(shapes: Sequence[tuple[int, int]], budget: int) -> list[int]:
    """Rows of each matrix that learn within a budget of parameters: all of the first ones, then those that still fit.

    Args:
        shapes: rows and columns, in the order in which they are taken.
        budget: of parameters.

    >>> rows_within([(4, 10), (5, 10), (6, 10)], 75), rows_within([(4, 10)], 400)
    ([4, 3, 0], [4])
    """
    taken = []
    for rows, columns in shapes:
        fit = min(rows, budget // columns)
        taken.append(fit)
        budget = budget - fit * columns if fit == rows else 0
    return taken


class KappaTune(Strategy):
    """Trains the selected tensors, or adapters in their layers, and the head.

    Raises:
        UserError: a network without candidates.
    """

    Config = KappaTuneConfig
    regresses = True

    @classmethod
    def needs(cls, config: KappaTuneConfig) -> frozenset[Knowledge]:
        """Boundaries, where tensors are selected at them."""
        return frozenset({"boundaries"} if config.at == "experience" else ())

    def __init__(self, config: KappaTuneConfig, setup: Setup) -> None:
        self.config: KappaTuneConfig = config
        model = setup.model
        layers, head = linear_layers(model, "kappatune", needed=int(config.rank is not None))
        freeze_all_but(model, head)
        self.drawn = setup.new_generator("selection")
        self.kappa: dict[str, float] = {}
        """Condition number of each candidate at the last selection."""
        self.rows: dict[str, int] = {}
        """Rows of each selected candidate that learn; of adapters, those of A and the columns of B."""
        names = [f"{name}.weight" for name in layers] if config.rank else None
        self._candidates = candidates(model, head, names)
        if not self._candidates:
            raise UserError("model: 'kappatune' needs a network with weights of two dimensions before the last layer.")
        self._held: dict[str, Tensor] = {}
        """Rows of a tensor that learns in part which do not learn."""
        self.adapters: Adapters | None = None
        self._select()
        if config.rank:
            chosen = [name.removesuffix(".weight") for name in self._candidates if name in self.rows]
            self.adapters = Adapters(model, chosen, config.rank, config.alpha, 0.0, setup.new_generator("adapters"))
            self.adapters.add(_ADAPTER)
            self.adapters.train(_ADAPTER)
            activate(model, [_ADAPTER])
        super().__init__(config, setup)
        self._check_optimizer()

    def _check_optimizer(self) -> None:
        """
        Raises:
            UserError: the optimiser of another part of a composition, made before the adapters, does not know them.
        """
        known = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        if self.adapters is not None and not all(id(p) in known for p in self.adapters.parameters(_ADAPTER)):
            raise UserError(
                "strategy.kappatune.rank: adapters do not compose with a part that defines the training objective. "
                "Allowed: null."
            )

    def _select(self) -> None:
        """Chooses the tensors that learn."""
        views = {name: matrix(p) for name, p in self._candidates.items()}
        shapes = {name: (len(view), view.shape[1]) for name, view in views.items() if view is not None}
        self.kappa = {name: condition_number(view) for name, view in views.items() if view is not None}
        names = ordered(self.kappa, self.config.select, self.drawn)
        self.rows = self._rows(names, shapes)
        if not self.rows:
            raise UserError(
                f"strategy.share: {self._share:g} of all adapters is less than one, of rank {self.config.rank}."
            )
        if self.config.rank is None:
            self._learn()

    @property
    def _share(self) -> float:
        return _SHARE if self.config.share is None else self.config.share

    def _rows(self, names: list[str], shapes: dict[str, tuple[int, int]]) -> dict[str, int]:
        rank = self.config.rank
        if self.config.tensors is not None:
            if self.config.tensors > len(names):
                raise UserError(
                    f"strategy.tensors: got {self.config.tensors}, and the network has {len(names)} candidates."
                )
            return {name: rank or shapes[name][0] for name in names[: self.config.tensors]}
        if rank is None:
            budget = round(self._share * sum(rows * columns for rows, columns in shapes.values()))
            budget = max(budget, shapes[names[0]][1])  # a row at least
            taken = rows_within([shapes[name] for name in names], budget)
            return {name: rows for name, rows in zip(names, taken, strict=True) if rows}
        sizes = {name: rank * sum(shapes[name]) for name in names}
        ends = np.cumsum([sizes[name] for name in names])
        fit = int(np.searchsorted(ends, round(self._share * sum(sizes.values())), side="right"))
        return dict.fromkeys(names[:fit], rank)

    def _learn(self) -> None:
        """Makes the selected rows learn; the others of a tensor that learns in part are put back after each update."""
        for name, p in self._candidates.items():
            p.requires_grad_(name in self.rows)
        whole = {name: table(self._candidates[name].detach()) for name in self.rows}
        self._held = {name: t[self.rows[name] :].clone() for name, t in whole.items() if self.rows[name] < len(t)}

    def begin_experience(self, experience: Experience) -> None:
        if self.config.at == "experience" and experience.part == 0 and self.experiences:
            self._select()
        super().begin_experience(experience)

    def before_update(self, batch: Batch) -> None:
        for name in self._held:
            gradient = self._candidates[name].grad
            if gradient is not None:
                table(gradient)[self.rows[name] :] = 0.0

    def after_update(self, batch: Batch) -> None:
        for name, rows in self._held.items():
            table(self._candidates[name].detach())[self.rows[name] :] = rows

    def memory(self) -> Memory:
        """Adapters, and the rows that are put back."""
        held = sum(rows.nbytes for rows in self._held.values())
        return Memory(0, held + (0 if self.adapters is None else self.adapters.nbytes))

    def report(self) -> dict[str, float]:
        """Condition number of each candidate at the last selection, its rows that learn (of adapters, their rank), and
        the number of parameters before the head that learn."""
        figures = {f"kappa {name}": value for name, value in self.kappa.items()}
        figures |= {f"rows {name}": float(rows) for name, rows in self.rows.items()}
        return {**figures, "parameters": float(self._learning())}

    def _learning(self) -> int:
        if self.adapters is not None:
            return sum(p.numel() for p in self.adapters.parameters(_ADAPTER))
        return sum(
            rows * self._candidates[name].numel() // len(table(self._candidates[name]))
            for name, rows in self.rows.items()
        )

    def state_dict(self) -> dict[str, Any]:
        fields = {"kappa": dict(self.kappa), "rows": dict(self.rows), "drawn": self.drawn.state_dict()}
        return {**super().state_dict(), **fields}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.kappa, self.rows = dict(state["kappa"]), dict(state["rows"])
        self.drawn.load_state_dict(state["drawn"])
        if self.adapters is None:
            self._learn()
