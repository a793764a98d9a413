"""clbench: continual-learning benchmarks, evaluated at every iteration."""

from clbench import moved

__version__ = "0.2.0"

moved.install()
