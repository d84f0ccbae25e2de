"""What earlier passes over audio have made, so that the next one adds only what is missing.

A pass reads audio once for all layers and quantizers that are wanted of an encoder. Beside each thing
it makes lies what that was made from; a thing that was made from the same is left as it is.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from artifacts.files import read_json
from units.weights import checksum, encoder_checksums

KEY = "made_from"
"""Under which a JSON file beside the thing says it."""


def made_from(encoder_folder: Path, manifest: Path, **settings: Any) -> dict[str, Any]:
    """What decides the outcome of a pass: checksums of the encoder and the manifest, and its settings.

    Raises:
        InputError: As `encoder_checksums`.
    """
    return {"encoder": encoder_checksums(encoder_folder), "manifest": checksum(manifest), **settings}


def is_there(record: Path, origin: Mapping[str, Any]) -> bool:
    """Whether the thing whose `record` (a JSON file) this is was made from the same."""
    return record.is_file() and read_json(record).get(KEY) == origin
