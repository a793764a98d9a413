"""What is read of results: scores, leaderboards, comparisons, figures."""
