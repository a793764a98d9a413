"""What the learner is handed: training set, inputs, batches, networks, optimizers, budget."""
