"""Configuration models, one file for each section of a YAML file; the `stream:` section is in `clbench.streams`."""

from clbench.config.augmentation import Augmentation, ColorJitter, HorizontalFlip, RandomCrop, Rotation
from clbench.config.benchmark import Benchmark, Numerics, Protocol, Seeds, StrategyConfig, Tuning
from clbench.config.evaluation import Evaluation, View, Watch
from clbench.config.networks import (
    Cnn,
    Head,
    Imported,
    Linear,
    Mlp,
    Network,
    ResNet18,
    ResNet32,
    SlimResNet18,
    Torchvision,
)
from clbench.config.optimizers import Adagrad, Adam, AdamW, Optimizer, RmsProp, Sgd
from clbench.config.training import Parameters, Training
from clbench.schema import Model
from clbench.streams.definition import StreamConfig

__all__ = [
    "Adagrad",
    "Adam",
    "AdamW",
    "Augmentation",
    "Benchmark",
    "Cnn",
    "ColorJitter",
    "Evaluation",
    "Head",
    "HorizontalFlip",
    "Imported",
    "Linear",
    "Mlp",
    "Model",
    "Network",
    "Numerics",
    "Optimizer",
    "Parameters",
    "Protocol",
    "RandomCrop",
    "ResNet18",
    "ResNet32",
    "RmsProp",
    "Rotation",
    "Seeds",
    "Sgd",
    "SlimResNet18",
    "StrategyConfig",
    "StreamConfig",
    "Torchvision",
    "Training",
    "Tuning",
    "View",
    "Watch",
]
