# The experiment, the names that wildcards may take, and the settings each rule hands on.

import json
import re
import shlex
import sys
import time
from functools import cache
from pathlib import Path

sys.path.insert(0, workflow.basedir)

from artifacts.device import has_gpu
from artifacts.errors import InputError
from corpora.settings import SetAt
from corpora.settings import SPEECH_LAYOUTS, TEXT_TIERS, has_texts
from spidr.settings import Recipe
from slm.settings import SlmRecipe
from units.registry import hub_source
from units.spin.settings import SpinRecipe
from units.weights import source_files
from workflow.interpreter import use_this_interpreter
from workflow.launch import read_launch
from workflow.passes import RECORD, layer_pass, layers_of
from workflow.reading import read_experiment, read_recipe, the_experiment_file
from workflow.summary import print_run
from workflow.targets import QUALITY_METRICS, Targets

DEFAULT_EXPERIMENT = Path(workflow.basedir) / "config" / "demo.yaml"
try:
    EXPERIMENT_FILE = the_experiment_file(workflow.configfiles, DEFAULT_EXPERIMENT)
    EXPERIMENT = read_experiment(EXPERIMENT_FILE)
    LAUNCH = read_launch(workflow.config_settings.config)  # without the experiment's keys, which `config` has too
    TARGETS = Targets(EXPERIMENT)
    TARGETS.check_records()
except InputError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)

STARTED = time.time()
use_this_interpreter(Path(workflow.basedir))
read_recipe = cache(read_recipe)  # a job asks for one each time that snakemake looks at it
ROOT = TARGETS.root
LOGS = f"{ROOT}/logs"
BENCHMARKS = f"{ROOT}/benchmarks"
GPU = None if EXPERIMENT.device == "cpu" else 1  # none: snakemake leaves it out
IS_HERE = workflow.is_main_process and workflow.nodes is None  # jobs run on this machine, not on a cluster's nodes

# Each job takes the first GPU of its machine: here they take turns, unless --resources says how many may share it.
if IS_HERE and GPU and "gpu" not in workflow.global_resources and has_gpu():
    workflow.register_resource("gpu", 1)


def any_of(names):
    """A wildcard constraint: one of these names, or nothing at all where there are none."""
    return "|".join(map(re.escape, names)) or "(?!)"


def those(names, keep):
    return [name for name, value in names.items() if keep(value)]


def settings_json(model, exclude=None):
    """The resolved settings of one stage, as an entry point takes them, without keys that are other stages' matter."""
    return model.model_dump_json(exclude=exclude)


def device_of(wildcards, output):
    """Where models run. Parameters made from the output's names do not make snakemake run a job again: a device is none."""
    return EXPERIMENT.device


def scoring_device(wildcards, output):
    """Where ABX is computed: on a cluster by CPUs, of which there are more than GPUs, whatever models want."""
    return "auto" if GPU else "cpu"


def scoring_gpu(wildcards):
    """Where there is a GPU on this machine, ABX takes its turn."""
    return GPU if IS_HERE else None


def gpu_of_encoder(wildcards):
    """A GPU, where an encoder is run on one."""
    return None if encoder_of(wildcards).family == "mfcc" else GPU


def by_attempt(amount):
    """A resource of which each further attempt gets as much again: what killed the last one may have been its lack."""
    return lambda wildcards, attempt: amount * attempt


def minutes(amount):
    """A run time by attempt, as long as the site lets it."""
    return lambda wildcards, attempt: LAUNCH.minutes(amount * attempt)


def encoder_of(wildcards):
    return EXPERIMENT.encoders[wildcards.encoder]


def source_of_encoder(wildcards):
    """The files of a model in a local folder: other weights there are another encoder."""
    encoder = encoder_of(wildcards)
    return list(map(str, source_files(hub_source(encoder.source)))) if encoder.family == "hub" else []


def recipe_of(wildcards):
    return settings_json(read_recipe_of(encoder_of(wildcards)))


def read_recipe_of(encoder):
    """The recipe that an encoder is trained by."""
    return read_recipe(SpinRecipe if encoder.family == "spin" else Recipe, EXPERIMENT_FILE, encoder.recipe)


def manifest(corpus):
    return f"{ROOT}/corpora/{corpus}/manifest.csv"


def display_name(encoder):
    """How tables and figures call an encoder."""
    return EXPERIMENT.encoders[encoder].name or encoder


def subject_of_layer(wildcards):
    """Whose features are scored."""
    return json.dumps({"encoder": wildcards.encoder, "layer": int(wildcards.layer)})


def num_units(system):
    """Size of a system's unit inventory; that of the phones is known once they are read."""
    if system.quantizer is None:
        return None
    quantizer = EXPERIMENT.quantizers[system.quantizer]
    if quantizer.kind == "kmeans":
        return quantizer.num_units
    encoder = EXPERIMENT.encoders[system.encoder]
    return read_recipe_of(encoder).model.codebook_size if getattr(encoder, "recipe", None) else None


def subject_of_system(wildcards):
    """Whose units, or whose language model, is scored."""
    system = EXPERIMENT.all_systems[wildcards.system]
    return json.dumps(
        {
            "encoder": system.encoder,
            "layer": system.layer,
            "quantizer": system.quantizer,
            "num_units": num_units(system),
        }
    )


def source_of(wildcards):
    """The synthetic corpus that a layout's path is relative to, where it has one."""
    source = EXPERIMENT.corpora[wildcards.corpus].source
    return f"{ROOT}/corpora/{source}" if source else []


def tables_of_texts(wildcards):
    """The table that a corpus's texts are from, where it is one of its own under results/."""
    folder, texts = f"{ROOT}/corpora/{wildcards.corpus}", EXPERIMENT.corpora[wildcards.corpus].texts
    if texts in TEXT_TIERS:
        return {"intervals": f"{folder}/intervals.csv"}
    return {} if texts else {"items_table": f"{folder}/items.csv"}


def quantizer_folder(wildcards):
    return folder_of_quantizer(EXPERIMENT.all_systems[wildcards.system])


def folder_of_quantizer(system):
    return f"{ROOT}/quantizers/{system.encoder}/L{system.layer:02d}/{system.quantizer}"


def lane_name(system):
    """What the alignment figure calls a system, in little room."""
    encoder = EXPERIMENT.encoders[system.encoder]
    layer = "" if encoder.family == "mfcc" else f" {system.layer}"
    kind = {"kmeans": "K-means"}.get(EXPERIMENT.quantizers[system.quantizer].kind, system.quantizer)
    return f"{display_name(system.encoder)}{layer}, {kind} {num_units(system) or ''}".strip()


def encoder_config(wildcards):
    """The encoder's own file: in its folder under results/, or where the experiment says it was made."""
    return encoder_files(wildcards)[0]


def encoder_files(wildcards):
    """What an encoder is loaded from: its configuration, and its weights where it has them."""
    is_named = hasattr(wildcards, "encoder")
    return files_of_encoder(wildcards.encoder if is_named else EXPERIMENT.all_systems[wildcards.system].encoder)


def files_of_encoder(name):
    return TARGETS.files_of_encoder(name)


def record_of(encoder, kind, corpus, layers, layer):
    """The pass that makes a layer's frames of a corpus."""
    folder = f"{ROOT}/passes/{encoder}/{kind}/{corpus}"
    return f"{folder}/{layer_pass(Path(folder), layers, layer)}/{RECORD}"


def pass_of_frames(wildcards):
    """The pass that makes features, or codebook predictions."""
    encoder, kind, layer = wildcards.encoder, wildcards.frames, int(wildcards.layer)
    layers = encoder_of(wildcards).layers if kind == "features" else quantized_layers(encoder, CODEBOOKS)
    return record_of(encoder, kind, wildcards.corpus, {*layers, layer}, layer)


def sampled_from(wildcards):
    """The pass that samples the frames which a K-means is fitted on."""
    quantizer = EXPERIMENT.quantizers[wildcards.quantizer]
    sample = (quantizer.fit, quantizer.max_frames)
    alike = those(EXPERIMENT.quantizers, lambda q: q.kind == "kmeans" and (q.fit, q.max_frames) == sample)
    layers, layer = quantized_layers(wildcards.encoder, alike), int(wildcards.layer)
    return record_of(wildcards.encoder, f"sample{quantizer.max_frames}", quantizer.fit, {*layers, layer}, layer)


def quantized_layers(encoder, quantizers):
    """Layers of an encoder that one of the quantizers makes units of."""
    systems = EXPERIMENT.all_systems.values()
    return {system.layer for system in systems if system.encoder == encoder and system.quantizer in quantizers}


@cache
def unit_passes_of(encoder):
    """The passes that make an encoder's units, as they were wanted when the workflow was read."""
    return TARGETS.unit_passes(encoder)


def unit_pass(wildcards):
    """The pass over audio of that name."""
    return next(p for p in unit_passes_of(wildcards.encoder) if p.name == wildcards.name)


def passes_of_units(wildcards):
    """The records, one a shard, of the pass that makes a system's units of a corpus."""
    encoder = EXPERIMENT.all_systems[wildcards.system].encoder
    passes = unit_passes_of(encoder)
    made = next(p for p in passes if wildcards.system in p.systems and wildcards.corpus in p.corpora)
    return made.records(f"{ROOT}/passes/{encoder}/units")


def vocabulary(wildcards):
    """The file that says how many units a system has, and how many a second."""
    if wildcards.system in [*PHONES, *TEXT]:
        return encoder_config(wildcards)
    return f"{quantizer_folder(wildcards)}/config.json"


def slm_of(wildcards):
    return EXPERIMENT.slms[wildcards.slm]


def data_of(wildcards):
    """What the training corpora are together, and hours of them, drawn by the experiment's seed for all trainings."""
    slm = slm_of(wildcards)
    named = ["--corpus", slm.corpus] if slm.corpus else []
    drawn = ["--hours", f"{slm.hours:g}", "--subset-seed", str(EXPERIMENT.seed)] if slm.hours else []
    return shlex.join([*named, *drawn])


def followed(wildcards):
    """Units and items of the sets that a language model's training follows, by metric."""
    scored = EXPERIMENT.zeroshot_of(EXPERIMENT.all_systems[wildcards.system])
    sets = {metric: scored[metric] for metric in slm_of(wildcards).follow if metric in scored}
    units = f"{ROOT}/units/{wildcards.system}"
    return {metric: (f"{units}/{name}.jsonl", f"{ROOT}/corpora/{name}/items.csv") for metric, name in sets.items()}


def normalization_of(metric, system):
    """How log-likelihoods are normalised: by the number of tokens, but not those of words as text (figure 3)."""
    return "none" if metric == "swuggy" and system in TEXT else "tokens"


def abx_scores(folder, metric):
    """The scores of one job; its wildcard `variant` is what Abx.variants says, and mostly empty."""
    conditions = ABX.conditions if ABX else ["within"]
    return [f"{folder}/{metric}.{{corpus}}.{condition}{{variant}}.json" for condition in conditions]


def abx_segments(wildcards):
    return "phoneme" if wildcards.variant.endswith("_phoneme") else "triphone"


def abx_context(wildcards):
    return "any" if wildcards.variant.startswith("_any") else "within"


def abx_item(wildcards):
    return f"{ROOT}/corpora/{wildcards.corpus}/{abx_segments(wildcards)}.item"


def after_selection(of):
    """An input function: what `of` gives once the layers called best are selected."""

    def files(wildcards):
        for encoder in TARGETS.selecting():
            checkpoints.select_layer.get(encoder=encoder)
        return of()

    return files


def compared(system):
    """Every score of a system, its language models' too should its layer be the best."""
    candidates = [candidate.name for found in EXPERIMENT.candidates.values() for candidate in found]
    wait = after_selection(lambda: TARGETS.system_scores(system))
    return wait(None) if system in candidates else TARGETS.system_scores(system)


def predictions_of(wildcards):
    system = EXPERIMENT.all_systems[wildcards.system]
    return f"{ROOT}/predictions/{system.encoder}/L{system.layer:02d}/{wildcards.corpus}"


def in_report(number):
    """A figure's PDF and PNG; the latter is in snakemake's own report."""
    figure = f"{ROOT}/figures/figure_{number}"
    png = report(f"{figure}.png", caption="../report/figure.rst", category="Figures", labels={"figure": number})
    return [f"{figure}.pdf", png]


SYNTHETIC = those(EXPERIMENT.corpora, lambda corpus: corpus.layout == "synthetic")
ANNOTATED = TARGETS.annotated()
FOLDERS = those(EXPERIMENT.corpora, lambda corpus: corpus.layout in SPEECH_LAYOUTS)
SETS = those(EXPERIMENT.corpora, lambda corpus: isinstance(corpus, SetAt))
PRETRAINED = those(EXPERIMENT.encoders, lambda encoder: encoder.family in ("spidr", "dinosr") and encoder.recipe)
FINE_TUNED = those(EXPERIMENT.encoders, lambda encoder: encoder.family == "spin")
DESCRIBED = those(EXPERIMENT.encoders, lambda encoder: encoder.family in ("hub", "custom", "mfcc"))
PHONES = those(EXPERIMENT.encoders, lambda encoder: encoder.family == "phones")
TEXT = those(EXPERIMENT.encoders, lambda encoder: encoder.family == "text")
MODELS = [name for name in EXPERIMENT.encoders if name not in [*PHONES, *TEXT]]
SPOKEN = [name for name in EXPERIMENT.all_systems if name not in TEXT]
QUANTIZED = [name for name in SPOKEN if name not in PHONES]
LIBRIHEAVY = those(EXPERIMENT.corpora, lambda corpus: corpus.layout == "libriheavy")
WRITTEN = [name for name in those(EXPERIMENT.corpora, has_texts) if name not in LIBRIHEAVY]
TEXT_SETS = [dataset for system in TEXT for dataset in TARGETS.sets_of(system)]
FITTED = those(EXPERIMENT.quantizers, lambda quantizer: quantizer.kind == "kmeans" and quantizer.fit)
GIVEN = those(EXPERIMENT.quantizers, lambda quantizer: quantizer.kind == "kmeans" and quantizer.path)
CODEBOOKS = those(EXPERIMENT.quantizers, lambda quantizer: quantizer.kind == "codebook")
ABSENT = [file for file in TARGETS.made_elsewhere() if not Path(file).exists()]
ABX = EXPERIMENT.evaluation.abx
CONDITIONS = " ".join(ABX.conditions) if ABX else ""
RESAMPLE = ABX.resample if ABX else ""
QUALITY = EXPERIMENT.evaluation.quality
POOLED = QUALITY.corpora if QUALITY else []
ALIGNED = [TARGETS.aligned_corpus()] if TARGETS.alignment() else []
ALIGNED_SYSTEMS = TARGETS.aligned_systems() if TARGETS.alignment() else []


# Scores know encoders by their keys: a new name makes what shows it anew, and measures nothing again.
NAMES = [f"{name}={encoder.name}" for name, encoder in EXPERIMENT.encoders.items() if encoder.name]

# What tables show, for the rule that draws them and for the report.
TABLE_ARGUMENTS = [
    *("--table", *TARGETS.table_names(), "--others", *TARGETS.others(), "--select", json.dumps(EXPERIMENT.select)),
    *("--groups", json.dumps({name: getattr(encoder, "group", None) for name, encoder in EXPERIMENT.encoders.items()})),
    *(["--beside", EXPERIMENT.beside] if EXPERIMENT.beside else []),
    *("--footprint", *(f"{source}={path}" for source, path in TARGETS.footprints().items())),
    *("--hyperparameters", *(f"{name}={path}" for name, path in TARGETS.hyperparameters().items())),
]


wildcard_constraints:
    corpus=any_of(EXPERIMENT.corpora),
    encoder=any_of(MODELS),
    layer=r"\d\d",
    layers=r"\d\d(\+\d\d)*",
    quantizer=any_of(EXPERIMENT.quantizers),
    system=any_of(EXPERIMENT.all_systems),
    slm=any_of(EXPERIMENT.slms),
    seed=r"\d+",
