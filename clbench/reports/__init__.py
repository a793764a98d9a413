"""Reports on results: scores, leaderboards, comparisons, figures."""
