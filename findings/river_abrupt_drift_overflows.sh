#!/usr/bin/env bash
# river 0.26.1: ConceptDriftStream raises OverflowError for an abrupt drift (width=1) behind position 178.
#
# The probability of the new concept is 1 / (1 + exp(v)), v = -4 (sample - position) / width. `math.exp` overflows where
# v passes 709.78, that is, at the first sample of a stream with position > 178.4 for width 1. The defaults (5000, 1000)
# are far from it; the abrupt drifts of papers (width=1) are not. One expects the probability 0 there.
#
# Seen at the first sample: positions 100 and 178 work, 179 and 2000 raise "OverflowError: math range error".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet river==0.26.1
"$folder/venv/bin/python" - <<'PYTHON'
from river.datasets import synth


def begins(position: int) -> str:
    stream = synth.ConceptDriftStream(synth.SEA(seed=1), synth.SEA(seed=1, variant=1), position=position, width=1, seed=1)
    try:
        next(iter(stream))
    except OverflowError as error:
        return f"OverflowError: {error}"
    return "a sample"


seen = {position: begins(position) for position in (100, 178, 179, 2000)}
for position, result in seen.items():
    print(f"position {position:4}, width 1: {result}")
assert [result == "a sample" for result in seen.values()] == [True, True, False, False], seen
print("as stated")
PYTHON
