"""Memory given back to the system: not too often, and only where the C library can."""

from __future__ import annotations

import sys

import pytest

from clbench.malloc import Allocator, malloc_trim


def test_memory_is_given_back_at_most_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, now = list[int](), [100.0]

    def trim(pad: int) -> int:
        calls.append(pad)
        return 1

    monkeypatch.setattr("time.monotonic", lambda: now[0])
    allocator = Allocator(trim)
    for seconds in (0.0, 0.5, 0.4, 0.2, 0.9, 0.1):
        now[0] += seconds
        allocator.give_back()
    assert calls == [0, 0, 0]  # after 0, 1.1 and 2.1 seconds


def test_another_c_library_keeps_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.confstr_names", {}, raising=False)
    assert malloc_trim() is None
    Allocator(malloc_trim()).give_back()


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is a C library of Linux")
def test_a_c_library_without_malloc_trim_keeps_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.confstr_names", {"CS_GNU_LIBC_VERSION": 2})
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert malloc_trim() is None
