"""Families of tasks: what is learnt. One family, one file."""
