"""SpidR, as Spin fine-tunes it."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from spidr.encoder import load_learner, write_encoder


class SpidrBase:
    """SpidR: the head reads the feed-forward output of the last block, before residual and layer norm.

    That is the tensor which SpidR's own heads read and which is evaluated as its layer (tap ``ffn``), so what is
    fine-tuned is what is measured. The paper does not say which it took. The last layer norm, which nothing
    reads, stays as it is, and so does the teacher.
    """

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self._learner = load_learner(folder)
        self.config = config
        self.network: nn.Module = self._learner.student.train()
        self.width = self._learner.settings.hidden_size

    def last_layer(self, waveforms: Tensor) -> Tensor:
        """Feed-forward output of the last block, (batch, frames, dim), of waveforms (batch, samples)."""
        last: Tensor = self.network(waveforms)[-1].ffn
        return last

    def learnt(self, frozen_blocks: int) -> nn.Module:
        """The blocks above, but for the last layer norm."""
        blocks = self._learner.student.transformer.layers[frozen_blocks:]
        parts = [part for block in blocks for part in block.children()]
        return nn.ModuleList(part for part in parts if part is not blocks[-1].final_layer_norm)

    def write(self, folder: Path, provenance: dict[str, Any]) -> None:
        """Write an encoder folder of family spidr."""
        write_encoder(folder, self._learner, provenance)
