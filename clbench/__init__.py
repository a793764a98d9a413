"""clbench: continual-learning benchmarks, evaluated at every iteration."""

import importlib

__version__ = "0.2.0"

importlib.import_module("clbench.moved").install()
