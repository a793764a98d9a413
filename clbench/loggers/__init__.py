"""Loggers for TensorBoard and Weights & Biases."""
