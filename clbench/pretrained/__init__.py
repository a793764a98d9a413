"""Pretrained networks out of public packages, as factories for `model: {name: imported}`.

Each module has `network(shape, outputs)`, an `nn.Sequential(encoder, nn.Linear)` whose encoder holds the pretrained
weights and whose head is initialised as torch does. The weights are those of one file of one package, which is read
where it is installed and never imported; its SHA-256 stands in `clbench.pretrained.packages` and enters the run's id.
"""
