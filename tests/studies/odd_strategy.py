"""A method of a user's own for the tests of engines, which copy it into a working directory."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from clbench.schema import Model
from clbench.strategy import Batch, Strategy


class Odd(Strategy):
    """Naive, but that it leaves a sign of its process, and at its 20th update does what is no method."""

    transient = ("done",)

    class Config(Model):
        act: str = "none"
        sign: str

    def __init__(self, config: Any, setup: Any) -> None:
        super().__init__(config, setup)
        self.done = 0

    def loss(self, batch: Batch) -> Any:
        self.done += 1
        if self.done == 20:
            act, sign = self.config.act, Path(self.config.sign)
            first = not sign.exists()
            half = sign.with_name(f"{sign.name}.half")
            half.write_text(f"{os.getpid()} {os.getppid()} {os.environ.get('OPENBLAS_NUM_THREADS')}")
            half.rename(sign)
            if act == "hang" and first:
                time.sleep(600)
            if act == "fail":
                raise RuntimeError("boom")
            if act == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if act == "linger" and first:  # until a wish to stop is noted
                while signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
                    time.sleep(0.05)
            if act == "wait" and first:
                while not Path("go").exists():
                    time.sleep(0.05)
        return super().loss(batch)
