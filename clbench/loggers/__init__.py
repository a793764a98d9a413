"""Loggers of other people's tools: TensorBoard and Weights & Biases."""
