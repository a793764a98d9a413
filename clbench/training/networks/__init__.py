"""The suite's networks: sequences of layers that end in one linear layer, the head."""
