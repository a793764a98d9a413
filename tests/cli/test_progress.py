"""The bar of one run: on terminals of any size, with accuracy and loss."""

from __future__ import annotations

import os
import sys

import pytest

from clbench.cli import progress

if sys.platform == "win32":
    pytest.skip("pseudo-terminals are POSIX's", allow_module_level=True)

import fcntl
import pty
import select
import struct
import termios


def shown(monkeypatch: pytest.MonkeyPatch, rows: int, columns: int) -> str:
    """Text that two updates of ten write to a terminal of that size; 0 is a size that it does not know."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        bar = progress.OneRun("er seed 0")
        bar.watch(lambda: (0.8125, 0.25), "class")
        bar.start(10, 2)
        bar._bar.mininterval, bar._bar.miniters, bar._bar.dynamic_miniters = 0, 0, False  # each update is drawn
        bar.update(3)
        bar.update(4)
        terminal.flush()
        text = b""
        while b"4/10" not in text and select.select([ours], [], [], 5)[0]:  # it arrives in pieces
            text += os.read(ours, 1 << 16)
        bar.close()
    os.close(ours)
    return text.decode()


@pytest.mark.parametrize(("rows", "columns"), [(24, 100), (0, 0), (0, 100), (24, 0)])
def test_a_bar_is_drawn_whatever_the_terminal_knows(rows: int, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    last = shown(monkeypatch, rows, columns).split("\r")[-1]
    assert last.startswith("er seed 0:  40%|")
    assert "4/10 [" in last
    assert last.rstrip().endswith("accuracy so far 81.2 %, loss 0.25]")


def test_nothing_is_drawn_or_read_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    bar = progress.OneRun("er seed 0")
    bar.watch(lambda: pytest.fail("a device would have to wait"), "class")
    bar.start(10, 0)
    bar.update(5)
    bar.close()
    assert capsys.readouterr().err == ""
