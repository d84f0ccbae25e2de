"""Which training a training is: whether one that was begun in a folder is to be gone on with, or another's."""

from typing import Any

from artifacts.files import sha256
from slm.pretrained import fingerprint
from slm.settings import SlmRecipe
from slm.store import TokenStore
from slm.subsets import Subset


def identity(
    recipe: SlmRecipe, seed: int, stores: list[TokenStore], held_out: TokenStore, subset: Subset | None = None
) -> dict[str, Any]:
    """What decides a training's result: another of it is another training.

    Raises:
        InputError: There is no model `model.init` to start from.
    """
    init = recipe.model.init
    only_looking = {"log_every", "checkpoint_every", "keep_checkpoints", "trackers", "compile"}
    return {
        "init": None if init is None else fingerprint(init),
        "recipe": recipe.model_dump(mode="json", exclude={"training": only_looking}),
        "seed": seed,
        "tokens": [[store.corpus, sha256(store.folder / "tokens.bin")] for store in stores],
        "subset": subset and subset._asdict(),
        "validation_tokens": [held_out.corpus, sha256(held_out.folder / "tokens.bin")],
    }
