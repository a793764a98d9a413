#!/usr/bin/env bash
# river 0.26.1: every Gaussian in a Hoeffding tree carries a Mersenne Twister of its own, seeded by the system.
#
# `proba.base.Distribution` makes a `random.Random(seed)`, seed None by default, which only `sample()` draws from. A leaf
# has one Gaussian for each feature and class that it has seen: with 64 features and 10 classes 640 states of 625 words.
# They are most of what a copy or a pickle of a tree consists of, and two trees that learnt the same samples are
# different objects: no comparison of their pickles, and no hash, shows that they are equal. Their predictions are.
#
# Seen after 500 samples of 64 features and 10 classes: 640 generators, which are more than nine tenths of the bytes of
# a pickle; two pickles that differ, predictions that do not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet river==0.26.1
"$folder/venv/bin/python" - <<'PYTHON'
import io
import pickle
import random

from river import tree


class Counter(pickle.Pickler):
    """Counts the generators in an object, and leaves their states out."""

    found = 0

    def reducer_override(self, value):
        if isinstance(value, random.Random):
            self.found += 1
            return random.Random, ()
        return NotImplemented


def learnt():
    draw, model = random.Random(1), tree.HoeffdingTreeClassifier()
    for _ in range(500):
        label = draw.randrange(10)
        model.learn_one({n: draw.gauss(label, 1) for n in range(64)}, label)
    return model


one, other = learnt(), learnt()
without = io.BytesIO()
counter = Counter(without)
counter.dump(one)
whole, bare = len(pickle.dumps(one)), len(without.getvalue())
x = {n: 3.0 for n in range(64)}
print(f"{counter.found} generators; a pickle has {whole:,} bytes, {bare:,} without their states")
print(f"pickles alike: {pickle.dumps(one) == pickle.dumps(other)}")
print(f"predictions alike: {one.predict_proba_one(x) == other.predict_proba_one(x)}")
assert counter.found == 640
assert bare < whole / 10
assert pickle.dumps(one) != pickle.dumps(other)
assert one.predict_proba_one(x) == other.predict_proba_one(x)
print("as stated")
PYTHON
