"""Schedules: order and content of the experiences. One law, one file."""
