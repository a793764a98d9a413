"""Families of tasks. One family, one file."""
