"""Codebook units: the prediction head of SpidR, DinoSR or Spin at one layer, as a quantizer (section 4.1).

The unit of a frame is the code its head gives the highest probability.
"""

import argparse
from pathlib import Path

from artifacts.errors import run
from artifacts.provenance import provenance
from units.encoders import load, name_of, with_codebook
from units.quantizers import write_quantizer


def extract_codebook(encoder_folder: Path, layer: int, output: Path) -> None:
    """Write the head of one layer as a quantizer.

    Raises:
        InputError: The encoder has no codebook at this layer.
    """
    encoder = with_codebook(load(encoder_folder, "cpu", [layer]), encoder_folder, [layer])
    weight, bias = encoder.head_parameters(layer)
    config = {
        "kind": "codebook",
        "num_units": encoder.codebook_size,
        "encoder": name_of(encoder_folder),
        "layer": layer,
        "tap": encoder.tap,
        "frame_rate_hz": encoder.frame_rate_hz,
        "provenance": provenance({"layer": layer}, {"encoder": encoder_folder / "config.json"}),
    }
    write_quantizer(output, config, {"weight": weight, "bias": bias})


def main() -> None:
    """Write the prediction head of one layer of SpidR, DinoSR or Spin as a quantizer."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--encoder", type=Path, required=True, help="encoder folder, of family spidr, dinosr or spin")
    parser.add_argument("--layer", type=int, required=True, help="a layer that has a codebook, counted from 1")
    parser.add_argument("--output", type=Path, required=True, help="quantizer folder")
    arguments = parser.parse_args()
    extract_codebook(arguments.encoder, arguments.layer, arguments.output)


if __name__ == "__main__":
    run(main)
