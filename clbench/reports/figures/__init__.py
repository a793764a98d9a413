"""Figures of matplotlib: of runs, of studies and of streams. One kind of figure, one file."""
