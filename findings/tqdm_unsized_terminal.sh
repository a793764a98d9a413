#!/usr/bin/env bash
# tqdm 4.70.1 draws no progress bar on a terminal that does not know its height, whatever width it is given.
#
# Terminals of `script`, of some containers and of pseudo-terminals that a program opens have 0 rows and 0 columns until
# somebody sets them (that is what pty.openpty() gives). One expects a bar of 80 columns, as shutil.get_terminal_size()
# answers there, or at least one where `ncols=80` is said. But a height of 0 counts as a screen on which the line of the
# bar lies below the last row, so that nothing but the final line end is written; `nrows` has to be given as well.
# `isatty()` is true all the while, so that a program that is silent elsewhere is silent here too.
#
# Seen, bytes written to the terminal for three iterations:
#     0 rows, 80 columns: default 2, ncols=80 2, ncols=80 and nrows=24 more than 200
#    24 rows, 80 columns: default more than 200
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tqdm==4.70.1
env -u COLUMNS -u LINES "$folder/venv/bin/python" - <<'PYTHON'
import fcntl, os, pty, struct, subprocess, sys, termios

LOOP = "from tqdm import tqdm\nfor _ in tqdm(range(3), mininterval=0, **{}): pass"


def written(rows: int, settings: dict) -> int:
    """Bytes that reach a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, 80, 0, 0))
    subprocess.run([sys.executable, "-c", LOOP.format(settings)], stderr=theirs, check=True)
    size = len(os.read(ours, 1 << 16))
    os.close(theirs)
    os.close(ours)
    return size


seen = {
    (rows, str(settings)): written(rows, settings)
    for rows in (0, 24)
    for settings in ({}, {"ncols": 80}, {"ncols": 80, "nrows": 24})
}
for (rows, settings), size in seen.items():
    print(f"{rows:2} rows, {settings}: {size} bytes")
silent = {key for key, size in seen.items() if size <= 2}
assert silent == {(0, "{}"), (0, "{'ncols': 80}")}, silent
print("as stated")
PYTHON
