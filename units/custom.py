"""Encoders of one's own, named by import path: ``mypackage.mymodule:load``.

The callable takes the options of the experiment's entry as keywords, and ``device``, ``cpu`` or
``cuda``; it returns an object that can do what `units.encoders.Encoder` says. The module has to be
importable in every job: it lies in the working directory or on PYTHONPATH.
"""

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from artifacts.errors import InputError
from units.encoders import Encoder

FACTS: dict[str, tuple[type, ...]] = {
    "frame_rate_hz": (float, int),
    "num_layers": (int,),
    "tap": (str,),
    "batch_samples": (int,),
}
METHODS = ("dim", "num_frames", "features")


def load_custom(loader: str, options: Mapping[str, Any], device: str) -> Encoder:
    """Call a loader, and check that an encoder came back.

    Raises:
        InputError: The loader cannot be imported, does not take these options, or what it returns lacks
            an attribute of an encoder.
    """
    module, _, name = loader.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        expected = "a callable of a module in the working directory or on PYTHONPATH"
        raise InputError(f"loader: found {loader!r}, expected {expected} ({error})") from None
    try:
        inspect.signature(function).bind(device=device, **options)
    except TypeError as error:
        raise InputError(f"options: {loader} does not take {', '.join(['device', *options])} ({error})") from None
    encoder: Encoder = function(device=device, **options)
    for attribute, kinds in FACTS.items():
        found = getattr(encoder, attribute, None)
        if type(found) not in kinds:
            raise InputError(
                f"loader: {loader} returned an encoder whose {attribute} is {found!r}, expected {kinds[0].__name__}"
            )
    for method in METHODS:
        if not callable(getattr(encoder, method, None)):
            raise InputError(f"loader: {loader} returned an encoder without {method}(), expected that method")
    return encoder
