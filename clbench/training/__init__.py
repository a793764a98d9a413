"""Training: training set, inputs, batches, networks, optimizers, budget."""
