"""Ways to run many runs."""
