"""Checks for the tests of this suite and of anybody's own strategies and streams."""

from clbench.testing.resume import check_resume
from clbench.testing.states import assert_same
from clbench.testing.strategies import check_strategy, told_what_it_needs
from clbench.testing.streams import check_stream
from clbench.testing.traces import make_trace

__all__ = ["assert_same", "check_resume", "check_strategy", "check_stream", "make_trace", "told_what_it_needs"]
