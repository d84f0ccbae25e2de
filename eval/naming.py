"""Files that the command line gives a name: ``name=path``."""

from pathlib import Path

from artifacts.errors import InputError


def named_path(text: str, option: str) -> tuple[str, Path]:
    """A name and a path, parted at the last ``=``: names are free text.

    Args:
        option: Where the text stands, for the message.

    Raises:
        InputError: There is no ``=``.
    """
    name, separator, path = text.rpartition("=")
    if not (name and separator and path):
        raise InputError(f"{option}: found {text!r}, expected name=path")
    return name, Path(path)
