"""Reading an experiment file: against its recipes, and against the encoders that lie on this machine."""

from collections.abc import Sequence
from pathlib import Path

from artifacts.errors import InputError
from artifacts.files import read_json, read_json_object
from artifacts.settings import Settings, parse_settings, read_yaml
from eval.results import read_results
from slm.settings import SlmRecipe
from spidr.settings import Recipe
from units.registry import find
from units.settings import (
    ConvertedEncoder,
    Encoder,
    HubEncoder,
    SpidrEncoder,
    SpinEncoder,
    layers_by_quantizer,
)
from units.spin.settings import SpinRecipe
from workflow.experiment import Experiment
from workflow.targets import Targets


def the_experiment_file(given: Sequence[Path], default: Path) -> Path:
    """The file that ``--configfile`` names, or the default.

    Raises:
        InputError: It names several: which of them a run is of would be a matter of their order.
    """
    if len(given) > 1:
        raise InputError(f"--configfile: found {', '.join(map(str, given))}, expected one experiment")
    return Path(given[0]) if given else default


def read_experiment(path: Path) -> Experiment:
    """Read and check an experiment file, its recipes and its layer numbers.

    Recipes are looked for beside the experiment file.

    Raises:
        InputError: One line naming file and key, what was found and what was expected.
    """
    experiment = parse_settings(Experiment, read_yaml(path), str(path))
    for name, encoder in experiment.encoders.items():
        where = f"{path}: encoders.{name}"
        if isinstance(encoder, SpidrEncoder) and encoder.recipe:
            recipe = read_recipe(Recipe, path, encoder.recipe)
            first_codebook = recipe.model.num_layers - recipe.model.num_codebooks + 1
            _check_layers(where, encoder.layers, recipe.model.num_layers)
            for quantizer, layers in layers_by_quantizer(encoder).items():
                low = [layer for layer in layers if layer < first_codebook]
                if experiment.quantizers[quantizer].kind == "codebook" and low:
                    raise InputError(
                        f"{where}.layers: found {low[0]} with quantizer {quantizer}, "
                        f"expected {first_codebook} to {recipe.model.num_layers}: the layers that have a codebook"
                    )
        if isinstance(encoder, HubEncoder):
            if released := find(encoder.source):
                _check_layers(where, encoder.layers, released.num_layers)
            else:
                _check_layers_of_folder(where, encoder.layers, Path(encoder.source), "num_hidden_layers")
        if isinstance(encoder, SpidrEncoder | ConvertedEncoder) and encoder.path:
            _check_layers_of_folder(where, encoder.layers, Path(encoder.path), "num_layers")
        if isinstance(encoder, SpinEncoder):
            _check_spin(where, encoder, experiment, path)
        codebooks = [name for name in encoder.quantizers if experiment.quantizers[name].kind == "codebook"]
        if isinstance(encoder, ConvertedEncoder) and codebooks:
            config = Path(encoder.path) / "config.json"
            if config.is_file() and "codebook_size" not in read_json_object(config):
                raise InputError(
                    f"{where}.quantizers: found {codebooks[0]} of kind codebook, expected kmeans: "
                    f"{encoder.path} has no codebook"
                )
    for slm in experiment.slms.values():
        read_recipe(SlmRecipe, path, slm.recipe)
    _check_beside(path, experiment)
    return experiment


def _check_beside(experiment_file: Path, experiment: Experiment) -> None:
    """Check the source that tables print beside ours against the others, as far as they lie on this machine."""
    others = [Path(other) for other in Targets(experiment).others()] if experiment.beside else []
    if not others or not all(path.is_file() for path in others):
        return
    sources = list(dict.fromkeys(result.source for result in read_results(others, by_table=True)))
    if experiment.beside not in sources:
        raise InputError(
            f"{experiment_file}: beside: found {experiment.beside!r}, "
            f"expected one of the sources of others: {', '.join(sources)}"
        )


def read_recipe[S: Settings](kind: type[S], experiment_file: Path, recipe: str) -> S:
    """Read a training recipe that an experiment file names, relative to that file's folder."""
    path = experiment_file.parent / recipe
    return parse_settings(kind, read_yaml(path), str(path))


def _check_spin(where: str, encoder: SpinEncoder, experiment: Experiment, experiment_file: Path) -> None:
    """Check a fine-tuning against its recipe and, where they are known on this machine, the layers of its base."""
    recipe = read_recipe(SpinRecipe, experiment_file, encoder.recipe)
    num_layers = _num_layers(experiment.encoders[encoder.base], experiment_file)
    if num_layers is None:
        return
    _check_layers(where, encoder.layers, num_layers)
    if recipe.model.frozen_blocks >= num_layers:
        raise InputError(
            f"{where}.recipe: found model.frozen_blocks {recipe.model.frozen_blocks}, "
            f"expected at most {num_layers - 1}: the encoder has {num_layers} layers"
        )
    for quantizer, layers in layers_by_quantizer(encoder).items():
        if experiment.quantizers[quantizer].kind == "codebook" and layers != [num_layers]:
            raise InputError(
                f"{where}.layers: found {layers} with quantizer {quantizer}, "
                f"expected [{num_layers}]: the layer that has the codebook"
            )


def _num_layers(encoder: Encoder, experiment_file: Path) -> int | None:
    """Layers of an encoder that may be fine-tuned, where they are known on this machine."""
    if isinstance(encoder, HubEncoder) and (released := find(encoder.source)):
        return released.num_layers
    if isinstance(encoder, SpidrEncoder) and encoder.recipe:
        return read_recipe(Recipe, experiment_file, encoder.recipe).model.num_layers
    if isinstance(encoder, HubEncoder):
        config, key = Path(encoder.source) / "config.json", "num_hidden_layers"
    else:
        config, key = Path(getattr(encoder, "path", "")) / "config.json", "num_layers"
    return read_json_object(config).get(key) if config.is_file() else None


def _check_layers_of_folder(where: str, layers: list[int], folder: Path, key: str) -> None:
    """Check layers against an encoder's own configuration, where it lies on this machine."""
    path = folder / "config.json"
    if path.is_file():
        config = read_json(path)
        if not isinstance(config, dict) or not isinstance(config.get(key), int):
            raise InputError(f"{path}: found no {key}, expected the configuration of an encoder")
        _check_layers(where, layers, config[key])


def _check_layers(where: str, layers: list[int], num_layers: int) -> None:
    for layer in layers:
        if layer > num_layers:
            raise InputError(
                f"{where}.layers: found {layer}, expected 0 to {num_layers}: the encoder has {num_layers} layers"
            )
