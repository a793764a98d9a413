"""Places in the user's own files that an error came through."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path
from textwrap import shorten

from clbench import source

_MOST, _WIDTH = 4, 80


def user_frames(error: BaseException) -> list[str]:
    """Lines of the user's files in an error's traceback, the outermost first, and the code of the last one:
    `my_method.py line 12, in loss: return self.scale(x)`.

    Files of the suite, of installed packages and of Python itself are left out, and of many lines the middle ones.
    """
    met = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_users(frame.filename)]
    frames = [f"{Path(frame.filename).name} line {frame.lineno}, in {frame.name}" for frame in met]
    if met and met[-1].line:
        frames[-1] += f": {shorten(met[-1].line, _WIDTH, placeholder=' ...')}"
    return frames if len(frames) <= _MOST else [*frames[:1], "...", *frames[1 - _MOST :]]


def described(error: BaseException) -> str:
    """An error in one line: its class, its message, and where it came through the user's files.

    >>> described(ValueError("no luck"))
    'ValueError: no luck'
    """
    text = f"{type(error).__name__}: {error}".removesuffix(": ")
    frames = user_frames(error)
    return f"{text} ({'; '.join(frames)})" if frames else text


def _is_users(filename: str) -> bool:
    if filename.startswith("<"):  # code that is no file
        return False
    path = Path(filename).resolve()
    installed = {"site-packages", "dist-packages"} & set(path.parts)
    return not installed and not any(path.is_relative_to(folder) for folder in _FOLDERS)


_PYTHON = (Path(sysconfig.get_path(key)).resolve() for key in ("stdlib", "platstdlib"))
_FOLDERS = (source.PACKAGE, *map(source.folder, source.PARTS), *_PYTHON)
