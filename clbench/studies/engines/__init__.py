"""Engines: how many runs are executed, in local processes, on Ray, on SLURM."""
