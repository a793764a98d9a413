#!/usr/bin/env bash
# torch 2.15.0: cross_entropy with label smoothing is infinite where any logit is masked by -inf, though the target's own
# logit is not.
#
# Masking the logits of classes that do not compete by -inf is the usual way in continual learning: their probability is
# 0, and without smoothing the loss is that of the other columns alone. One expects the same with smoothing. But the
# smoothed target gives every class a share, the masked ones too, whose log-probability is -inf.
#
# Seen: logits [1, 2, -inf], target 0:
#     label_smoothing 0      1.3133, as on the first two columns alone
#     label_smoothing 0.1    inf; 1.2633 on the first two columns alone
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.15.0
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import math

import torch
from torch.nn.functional import cross_entropy

logits, target = torch.tensor([[1.0, 2.0, -math.inf]]), torch.tensor([0])
for smoothing in (0.0, 0.1):
    masked = cross_entropy(logits, target, label_smoothing=smoothing).item()
    alone = cross_entropy(logits[:, :2], target, label_smoothing=smoothing).item()
    print(f"label_smoothing {smoothing}: {masked:.4f}, on the first two columns alone {alone:.4f}")
    assert math.isfinite(alone)
    assert masked == alone if smoothing == 0.0 else masked == math.inf
print("as stated")
PYTHON
