"""clbench: continual-learning benchmarks, evaluated at every iteration."""

__version__ = "0.2.0"
