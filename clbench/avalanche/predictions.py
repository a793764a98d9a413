"""Predictions of Avalanche strategies, which may differ from those of their model."""

from __future__ import annotations

import copy
from typing import Any

import torch
from avalanche.core import BasePlugin, SupervisedPlugin
from avalanche.models import MultiTaskModule, NCMClassifier
from avalanche.models.utils import is_multi_task_module
from torch import Tensor, nn

from clbench.errors import RunFailed


def scores(strategy: Any, model: nn.Module, x: Tensor, labels: Tensor | None, experience: Any) -> Tensor | None:
    """Scores of the evaluation loop of an Avalanche strategy; None while it cannot predict.

    The loop runs on a shallow copy of the strategy without access to labels: the forward pass, and then the plugins
    that change its output (BiC corrects it, CoPE finds the nearest prototype). Plugins with state of a whole evaluation
    only measure, and are skipped. A network with task labels receives one task at a time.

    Args:
        strategy: unchanged.
        model: replaces the strategy's, in evaluation mode.
        x: inputs (N, ...).
        labels: Avalanche task labels (N,), for models with a head for each task; None stands for 0.
        experience: the current or last experience.

    Raises:
        RunFailed: the output is no tensor.
    """
    if labels is not None and is_multi_task_module(model) and bool((labels != labels[0]).any()):
        parts = {
            t: scores(strategy, model, x[labels == t], labels[labels == t], experience) for t in set(labels.tolist())
        }
        width = max(0 if p is None else p.shape[1] for p in parts.values())
        joined = x.new_full((len(x), width), float("-inf"))
        for t, part in parts.items():
            if part is None:
                return None
            joined[labels == t, : part.shape[1]] = part
        return joined
    for module in model.modules():
        if isinstance(module, NCMClassifier) and not module.class_means_dict:
            return None
        known = module.known_train_tasks_labels if isinstance(module, MultiTaskModule) else None
        if known and not known.issuperset([0] if labels is None else labels.tolist()):
            return None
    nothing = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    loop = copy.copy(strategy)
    loop.model, loop.is_training, loop.experience = model, False, experience
    loop.mbatch = [x, nothing, nothing if labels is None else labels]
    loop.mb_output = loop.forward()
    plugins = [p for p in strategy.plugins if isinstance(p, BasePlugin)]
    for event in ("after_eval_forward", "after_eval_iteration"):
        for plugin in plugins:
            if _overrides(plugin, event) and not (
                _overrides(plugin, "before_eval") or _overrides(plugin, "after_eval")
            ):
                getattr(copy.copy(plugin), event)(loop)
    if not isinstance(loop.mb_output, Tensor):
        raise RunFailed("no_scores", f"its evaluation gives {type(loop.mb_output).__name__}, and not scores of classes")
    return loop.mb_output


def _overrides(plugin: Any, event: str) -> bool:
    return getattr(type(plugin), event, None) is not getattr(SupervisedPlugin, event)
