"""Schedules: which experience comes when. One law, one file."""
