"""The continual evaluator: accuracy on every task, at any iteration, without touching the training."""
