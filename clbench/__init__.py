"""clbench: continual-learning benchmarks with an exact evaluation between task boundaries."""

__version__ = "0.1.0"
