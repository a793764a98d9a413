#!/usr/bin/env bash
# pyparsing 3.3.3: a function that imports it leaves its local variables in memory after its return, until Python's
# collector comes by.
#
# Reference counting frees a local variable at the return, and one expects that of a large array whatever the function
# imports. But pyparsing parses at its import, and MatchFirst.parseImpl raises an exception that is in a local
# variable of its own: exception, traceback and frame are a cycle, and the frame knows all frames below it, those of
# the import system and of whoever imports. Matplotlib imports pyparsing, and many libraries import Matplotlib,
# Avalanche among them.
#
# The collector frees it all: with the collector on nothing was left at the end of the import. It matters where the
# collector is off, and to tests that are to show that memory is freed without it. An import at the top of the program
# makes the same cycles, but its frames hold nothing large.
#
# Seen, the array of the function, after its return:
#     imported in it, collector off       alive, 14 exceptions;  dead after gc.collect(), 0
#     imported in it, collector on        dead, 0
#     imported before, collector off      dead, 14
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pyparsing==3.3.3
cat > "$folder/lazy.py" <<'PYTHON'
import array, gc, json, sys, weakref

before, collector = (word == "yes" for word in sys.argv[1:])
if not collector:
    gc.disable()
if before:
    import pyparsing


def lazily():
    large = array.array("b", bytes(100 << 20))
    alive = weakref.ref(large)
    import pyparsing

    return alive


def seen():
    """Whether the array lives, and how many exceptions with a traceback do."""
    exceptions = [o for o in gc.get_objects() if isinstance(o, BaseException) and o.__traceback__ is not None]
    return alive() is not None, len(exceptions)


alive = lazily()
print(json.dumps([seen(), (gc.collect(), seen())[1]]))
PYTHON
"$folder/venv/bin/python" - "$folder/lazy.py" <<'PYTHON'
import json, subprocess, sys

CASES = {
    "imported in it, collector off": ("no", "no"),
    "imported in it, collector on": ("no", "yes"),
    "imported before, collector off": ("yes", "no"),
}
lives = {}
for case, words in CASES.items():
    done = subprocess.run([sys.executable, sys.argv[1], *words], capture_output=True, text=True, check=True)
    (alive, exceptions), (still, left) = json.loads(done.stdout)
    lives[case] = (alive, still)
    print(
        f"{case:32} {'alive' if alive else 'dead'}, {exceptions} exceptions; "
        f"after gc.collect(): {'alive' if still else 'dead'}, {left}"
    )
assert lives["imported in it, collector off"] == (True, False), lives
assert lives["imported before, collector off"] == (False, False), lives
print("as stated")
PYTHON
