"""Bridge to and from Avalanche: this package alone imports it.

Hosting: any Avalanche strategy, or a factory of one, runs unmodified under our runner. It keeps its own training loop;
a plugin at the end of its list calls our observer, and our evaluator predicts through a twin of its model.

Export: `ContinualEvaluation` is a plugin for Avalanche scripts, and `benchmark` turns one of our streams into an
ordinary Avalanche benchmark.
"""

import warnings

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "no QP solver found|higher not found", UserWarning)  # GEM reports it itself
    warnings.simplefilter("ignore", DeprecationWarning)  # of its dependencies (JAXopt on Python 3.13)
    import avalanche.benchmarks
    import avalanche.training.plugins
    import avalanche.training.supervised.lamaml  # noqa: F401

from clbench.avalanche.benchmark import benchmark
from clbench.avalanche.plugin import ContinualEvaluation

__all__ = ["ContinualEvaluation", "benchmark"]
