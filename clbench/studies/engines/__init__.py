"""Engines: execution of many runs, in local processes, on Ray, on SLURM."""
