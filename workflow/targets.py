"""Names of everything an experiment makes: the one place that spells paths under ``results/``."""

from pathlib import Path

from artifacts.files import read_json_object, require_keys
from corpora.settings import SALMON_TASKS
from eval.results import OURS, TOPLINES
from eval.tables import table_stem
from units.settings import SpidrEncoder, SpinEncoder, Topline
from workflow.drawn import OF_COUNTS, TRAINING_LOG, shown
from workflow.experiment import Experiment, System
from workflow.passes import UnitPass, unit_passes
from workflow.tabled import OF_TRAININGS, PUBLISHED, TABLES, further_tables, pretrained_here

MOST_ALIGNED = 6
QUALITY_METRICS = (
    *("pnmi", "phone_purity", "cluster_purity", "codebook_perplexity", "active_units"),
    *("bitrate", "entropy_bitrate", "units_per_second", "per_many_to_one", "per_one_to_one"),
    *("boundary_precision", "boundary_recall", "boundary_f1", "boundary_r_value"),
)
"""Scores that one pass over the units and the annotation gives."""

ZEROSHOT_SCORES: dict[str, tuple[tuple[str, str | None], ...]] = {
    "swuggy": (("swuggy_all", None), ("swuggy_in_vocab", None)),
    "prosaudit": (("prosaudit", "protosyntax"), ("prosaudit", "lexical")),
    "salmon": (
        *(("salmon", task) for task in SALMON_TASKS),
        *(("salmon_consistency", None), ("salmon_alignment", None)),
    ),
}
"""Metric and condition of the scores of the zero-shot metrics that give more than one of their own name."""


class Targets:
    """Paths of one experiment, relative to the working directory."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.root = f"results/{experiment.experiment}"
        self.zeroshot = experiment.evaluation.zeroshot
        self.evaluation_sets = list(dict.fromkeys(self.zeroshot.values()))
        self.trained_on = list(
            dict.fromkeys(c for slm in experiment.slms.values() for c in [*slm.train, slm.validation])
        )

    def check_records(self) -> None:
        """Read all that lies under results/ and decides which jobs there are.

        To be called before snakemake asks for jobs: an input function that raises leaves it without a rule for a file
        that is there, which it then takes for one of the user's.

        Raises:
            InputError: A record is damaged.
        """
        for encoder in self.experiment.encoders:
            self.unit_passes(encoder)
        self.language_systems()
        self.inventoried()

    def annotated(self) -> list[str]:
        """Corpora that come with annotations."""
        return [name for name, corpus in self.experiment.corpora.items() if getattr(corpus, "annotations", None)]

    def inventoried(self) -> list[str]:
        """Annotations that the inventory of phones is taken from.

        Those of every annotated corpus; of an inventory that is there, those it was taken from, so that a further
        corpus is no cause to train on phones again. As the inventory is sorted, it is the same either way, unless that
        corpus has further phones, which `units.phones` then refuses.
        """
        tables = [f"{self.root}/corpora/{corpus}/intervals.csv" for corpus in self.annotated()]
        config = Path(self.root, "encoders", "phones", "config.json")
        if "phones" not in self.experiment.encoders or not config.is_file():
            return tables
        taken = read_json_object(config).get("intervals") or tables
        return [table for table in taken if table in tables or Path(table).is_file()]

    def _abx(self, subject: str, metric: str, variants: list[str] | None = None) -> list[str]:
        abx = self.experiment.evaluation.abx
        if abx is None:
            return []
        conditions = [f"{speaker}{variant}" for variant in variants or abx.variants for speaker in abx.conditions]
        return [f"{self.root}/scores/{subject}/{metric}.{c}.{k}.json" for c in abx.corpora for k in conditions]

    def layer_scores(self, encoder: str, layer: int) -> list[str]:
        """Scores of one layer's features."""
        words = self.experiment.evaluation.map
        subject = f"{encoder}/L{layer:02d}"
        formulas = [f"{corpus}.{variant}" for corpus in words.corpora for variant in words.variants] if words else []
        scores = [f"{self.root}/scores/{subject}/map_words.{formula}.json" for formula in formulas]
        return self._abx(subject, "abx_continuous") + scores

    def selection(self, encoder: str) -> str:
        """What says which layer of an encoder is the best."""
        return f"{self.root}/layers/{encoder}.json"

    def selected_by(self, encoder: str) -> list[str]:
        """The scores that decide it: continuous ABX of triphones within context."""
        found = self.experiment.encoders[encoder]
        layers = () if isinstance(found, Topline) else found.layers
        return [path for layer in layers for path in self._abx(f"{encoder}/L{layer:02d}", "abx_continuous", [""])]

    def selecting(self) -> list[str]:
        """Encoders whose best layer the experiment asks for."""
        return list(dict.fromkeys(found[0].encoder for found in self.experiment.candidates.values()))

    def language_systems(self) -> list[System]:
        """The systems that get a language model, as far as their layers are selected by now."""
        systems = list(self.experiment.language_systems)
        for candidates in self.experiment.candidates.values():
            path = Path(self.selection(candidates[0].encoder))
            if path.is_file():
                selected = read_json_object(path)
                require_keys(selected, {"layer": int}, path)
                layer = selected["layer"]
                systems += [system for system in candidates if system.layer == layer and system not in systems]
        return systems

    def unit_scores(self, system: System) -> list[str]:
        """Scores of a system's units; for a codebook, of its soft-max predictions too; text has none to measure."""
        if system.encoder == "text":
            return []
        scores = self._abx(system.name, "abx_units")
        if system.quantizer and self.experiment.quantizers[system.quantizer].kind == "codebook":
            scores += self._abx(system.name, "abx_codebook")
        if self.experiment.evaluation.quality:
            scores += [f"{self.root}/scores/{system.name}/{m}.{self.quality_dataset()}.json" for m in QUALITY_METRICS]
        return scores

    def quality_dataset(self) -> str:
        """Name of the corpora whose counts PNMI and its like pool, as scores print it."""
        quality = self.experiment.evaluation.quality
        return "_".join(quality.corpora) if quality else ""

    def sets_of(self, system: str) -> list[str]:
        """Evaluation sets that a system's language models are scored on."""
        return list(dict.fromkeys(self.experiment.zeroshot_of(self.experiment.all_systems[system]).values()))

    def language_scores(self, system: System) -> list[str]:
        """Zero-shot scores of every language model trained on a system's units."""
        scores = []
        for name, slm in self.experiment.slms_of(system).items():
            for seed in slm.seeds:
                subject = f"{self.root}/scores/{system.name}/{name}/seed{seed}"
                metrics = self.experiment.zeroshot_of(system)
                scores += [f"{subject}/{name}" for metric in metrics for name in self.zeroshot_scores(metric)]
        return scores

    def zeroshot_scores(self, metric: str) -> list[str]:
        """File names of the scores that a zero-shot metric gives of one language model."""
        scores = ZEROSHOT_SCORES.get(metric, ((metric, None),))
        parts = ((name, self.zeroshot[metric], condition, "json") for name, condition in scores)
        return [".".join(filter(None, of_score)) for of_score in parts]

    def system_scores(self, name: str) -> list[str]:
        """Every score that concerns one system: its features', its units', its language models'."""
        system = self.experiment.all_systems[name]
        scores = self.layer_scores(system.encoder, system.layer) if system.layer is not None else []
        scores += self.unit_scores(system)
        if system in self.language_systems():
            scores += self.language_scores(system)
        return scores

    def scores(self) -> list[str]:
        """Every score of the experiment."""
        found = []
        for name, encoder in self.experiment.encoders.items():
            if not isinstance(encoder, Topline):
                for layer in encoder.layers:
                    found += self.layer_scores(name, layer)
        for system in self.experiment.all_systems.values():
            found += self.unit_scores(system)
        for system in self.language_systems():
            found += self.language_scores(system)
        return found

    def evaluated(self, language: bool) -> list[str]:
        """Corpora whose units are evaluated.

        Args:
            language: With the evaluation sets of language models.
        """
        evaluation = self.experiment.evaluation
        corpora = [c for wanted in (evaluation.abx, evaluation.quality) if wanted for c in wanted.corpora]
        return list(dict.fromkeys(corpora + self.evaluation_sets if language else corpora))

    def unit_passes(self, encoder: str) -> list[UnitPass]:
        """The passes over audio that make an encoder's units."""
        wanted: dict[str, list[str]] = {}
        for system in self.experiment.all_systems.values():
            if system.encoder == encoder:
                for corpus in self.unit_corpora(system):
                    wanted.setdefault(corpus, []).append(system.name)
        folder = Path(self.root, "passes", encoder, "units")
        passes = unit_passes(folder, wanted, self.trained_on, self.experiment.shards)
        for candidate in (system for found in self.experiment.candidates.values() for system in found):
            if candidate.encoder == encoder:
                # A pass of its own, so that the others are the same whichever candidate is selected.
                corpora = self.language_corpora(candidate)
                further = {c: [candidate.name] for c in corpora if candidate.name not in wanted.get(c, [])}
                passes += unit_passes(folder, further, self.trained_on, self.experiment.shards)
        return passes

    def unit_corpora(self, system: System) -> list[str]:
        """Corpora that one system tokenizes."""
        if system in self.experiment.language_systems:
            return self.language_corpora(system)
        return self.evaluated(language=False)

    def language_corpora(self, system: System) -> list[str]:
        """Corpora whose units a system's language models are trained on, validated on and evaluated on."""
        slms = self.experiment.slms_of(system).values()
        read = [corpus for slm in slms for corpus in (*slm.train, slm.validation)]
        return list(dict.fromkeys([*read, *self.evaluated(language=True)]))

    def used_corpora(self) -> list[str]:
        """Corpora that a job of the experiment reads speech of."""
        experiment = self.experiment
        used: list[str | None] = []
        for encoder in experiment.encoders.values():
            if isinstance(encoder, SpidrEncoder):
                used += [*encoder.train, encoder.validation]
            elif isinstance(encoder, SpinEncoder):
                used += encoder.train
        quantizers = {name for encoder in experiment.encoders.values() for name in encoder.quantizers}
        used += [q.fit for name, q in experiment.quantizers.items() if name in quantizers and q.kind == "kmeans"]
        used += self.trained_on + self.evaluation_sets if experiment.has_language_models else []
        wanted = (experiment.evaluation.abx, experiment.evaluation.quality, experiment.evaluation.map)
        used += [corpus for measured in wanted if measured for corpus in measured.corpora]
        return [name for name, c in experiment.corpora.items() if name in used and c.layout != "libriheavy"]

    def encoder_folders(self) -> dict[str, str]:
        """Where each encoder lies: under results/, or where the experiment says it was made."""
        return {
            name: getattr(encoder, "path", None) or f"{self.root}/encoders/{name}"
            for name, encoder in self.experiment.encoders.items()
        }

    def files_of_encoder(self, name: str) -> list[str]:
        """What an encoder is loaded from: its configuration, and its weights where it has them in one file."""
        folder, family = self.encoder_folders()[name], self.experiment.encoders[name].family
        weights = {"spidr": "model.safetensors", "dinosr": "model.safetensors", "spin": "spin.safetensors"}
        return [f"{folder}/{file}" for file in ("config.json", weights.get(family)) if file]

    def made_elsewhere(self) -> list[str]:
        """Files of the encoders and K-means that the experiment takes as they are."""
        encoders = [name for name, e in self.experiment.encoders.items() if getattr(e, "path", None)]
        kmeans = [q.path for q in self.experiment.quantizers.values() if q.kind == "kmeans" and q.path]
        files = [f"{folder}/{file}" for folder in kmeans for file in ("config.json", "quantizer.safetensors")]
        return [file for name in encoders for file in self.files_of_encoder(name)] + files

    def summary_of_slm(self, system: str, slm: str, seed: int | str) -> str:
        """What the training of a language model says of itself."""
        return f"{self.root}/slm/{system}/{slm}/seed{seed}/summary.json"

    def summary_of_encoder(self, encoder: str) -> str:
        """What an encoder's training says of itself. No job declares it, as with the log."""
        return f"{self.encoder_folders()[encoder]}/training/summary.json"

    def trainings(self) -> list[str]:
        """The summary of every training of a language model."""
        return [
            self.summary_of_slm(system.name, name, seed)
            for system in self.language_systems()
            for name, slm in self.experiment.slms_of(system).items()
            for seed in slm.seeds
        ]

    def aligned_corpus(self) -> str | None:
        """The corpus that the alignment figure takes an utterance from: the first that units are measured on."""
        return next(iter(self.evaluated(language=False)), None)

    def aligned_systems(self) -> list[System]:
        """Systems that the alignment figure shows, at most six: those with a language model, where there are any.

        Of more than six, the first of each encoder, then the second of each, and so on.
        """
        spoken = [s for s in self.experiment.language_systems if s.quantizer]
        systems = spoken or [s for s in self.experiment.all_systems.values() if s.quantizer]
        turns = {s.name: [t.name for t in systems if t.encoder == s.encoder].index(s.name) for s in systems}
        chosen = sorted(systems, key=lambda s: turns[s.name])[:MOST_ALIGNED]
        return [s for s in systems if s in chosen]

    def alignment(self) -> list[str]:
        """The alignment figure and what it shows; nothing where there are no units or no annotation."""
        if not (self.aligned_corpus() and self.aligned_systems()):
            return []
        return [f"{self.root}/figures/alignment.{kind}" for kind in ("png", "pdf", "json")]

    def sampled(self, metric: str) -> dict[str, str]:
        """Systems whose reading of a zero-shot metric's pairs the report shows, and the log-likelihoods they gave.

        Those of the alignment figure that have a language model, and the toplines; the first model of each.
        """
        toplines = [s for s in self.experiment.language_systems if s.encoder in TOPLINES]
        likelihoods = {}
        for system in [*self.aligned_systems(), *toplines]:
            slms = self.experiment.slms_of(system) if system in self.experiment.language_systems else {}
            if slms and metric in self.experiment.zeroshot_of(system):
                name, slm = next(iter(slms.items()))
                folder = f"{self.root}/likelihoods/{system.name}/{name}/seed{slm.seeds[0]}"
                likelihoods[system.name] = f"{folder}/{self.zeroshot[metric]}.csv"
        return likelihoods

    def samples(self) -> list[str]:
        """Pairs to listen to, for each zero-shot metric that a known system is scored with."""
        return [f"{self.root}/samples/{metric}.json" for metric in self.zeroshot if self.sampled(metric)]

    def health(self) -> list[str]:
        """The unit health report of every system of speech."""
        return [f"{self.root}/units/{name}/health.json" for name in self.experiment.all_systems if name != "text"]

    def tables(self) -> list[str]:
        """Tables wanted, in their three forms."""
        stems = [table_stem(name) for name in self.table_names()]
        return [f"{self.root}/tables/{stem}.{kind}" for stem in stems for kind in ("csv", "md", "tex")]

    def table_names(self) -> list[str]:
        """Numbers of the paper's tables, and names of the others."""
        return [*map(str, self.experiment.tables), *further_tables(self.experiment)]

    def published(self, number: int) -> str:
        """The paper's numbers in one of its tables."""
        return str(Path(__file__).parent.parent / "results" / PUBLISHED / f"table_{number}.csv")

    def others(self) -> list[str]:
        """Scores from elsewhere that are set beside ours."""
        published = [self.published(number) for number in TABLES if number not in OF_TRAININGS]
        return [path for other in self.experiment.others for path in (published if other == PUBLISHED else [other])]

    def footprints(self) -> dict[str, str]:
        """What pretraining cost, by source, for table 4."""
        theirs = {PUBLISHED: self.published(4)} if PUBLISHED in self.experiment.others else {}
        return {**theirs, OURS: f"{self.root}/footprint.csv"} if 4 in self.experiment.tables else {}

    def hyperparameters(self) -> dict[str, str]:
        """What pretraining was set to, by encoder, for table 5."""
        theirs = {PUBLISHED: self.published(5)} if PUBLISHED in self.experiment.others else {}
        folders, encoders = self.encoder_folders(), self.experiment.encoders
        names = pretrained_here(self.experiment)
        ours = {encoders[name].name or name: f"{folders[name]}/config.json" for name in names}
        return {**theirs, **ours} if 5 in self.experiment.tables else {}

    def pretrained(self) -> dict[str, str]:
        """The summary of every pretraining."""
        return {name: self.summary_of_encoder(name) for name in pretrained_here(self.experiment)}

    def figures(self) -> list[str]:
        """Figures wanted, in their two forms."""
        return [path for number in self.experiment.figures for path in self.figure(number)]

    def figure(self, number: int) -> list[str]:
        """One of the paper's figures, in its two forms."""
        return [f"{self.root}/figures/figure_{number:02d}.{kind}" for kind in ("pdf", "png")]

    def all_footprints(self) -> list[str]:
        """What pretraining took, for figure 4: ours, and the published where it is among the others."""
        ours = [f"{self.root}/footprint.csv"] if pretrained_here(self.experiment) else []
        return ours + ([self.published(4)] if PUBLISHED in self.experiment.others else [])

    def schedules(self) -> dict[str, str]:
        """The table of the schedules of every pretraining, for figure 5."""
        return {name: f"{self.root}/figures/schedules/{name}.csv" for name in pretrained_here(self.experiment)}

    def mask(self) -> str:
        """The table of the mask that figure 6 shows: of the first pretraining."""
        return f"{self.root}/figures/masks/{next(iter(pretrained_here(self.experiment)))}.csv"

    def embedded_corpus(self) -> str:
        """The corpus whose phones figures 8 and 9 show: the first that features are evaluated on."""
        evaluation = self.experiment.evaluation
        return next(corpus for wanted in (evaluation.abx, evaluation.map) if wanted for corpus in wanted.corpora)

    def embeddings(self, number: int) -> str:
        """The table of the phone embeddings that figure 8 or 9 shows."""
        found = shown(self.experiment, number)
        return f"{self.root}/figures/embeddings/{found.encoder}/{found.choice}/{self.embedded_corpus()}.csv"

    def shown_encoder(self, number: int) -> str:
        """The encoder that figure 8, 9 or 10 shows."""
        return shown(self.experiment, number).encoder

    def embedded_features(self, encoder: str, choice: str, corpus: str) -> list[str]:
        """The features that phone embeddings are made of: those of a layer, or of all of which the best is taken."""
        found = self.experiment.encoders[encoder]
        layers = () if isinstance(found, Topline) else found.layers
        chosen = [f"L{layer:02d}" for layer in layers if choice in ("best", f"L{layer:02d}")]
        return [f"{self.root}/features/{encoder}/{layer}/{corpus}" for layer in chosen]

    def counted(self) -> list[str]:
        """The PNMI score, with counts beside it, of every system that figure 10 shows, or takes the best layer of."""
        found = shown(self.experiment, OF_COUNTS)
        systems = [
            system
            for system in self.experiment.all_systems.values()
            if system.encoder == found.encoder and system.layer in found.layers and system.quantizer in found.quantizers
        ]
        return [f"{self.root}/scores/{system.name}/pnmi.{self.quality_dataset()}.json" for system in systems]

    def counted_selection(self) -> list[str]:
        """What selects the layer that figure 10 shows, where there are several."""
        found = shown(self.experiment, OF_COUNTS)
        return [self.selection(found.encoder)] if found.choice == "best" else []

    def training_logs(self) -> dict[str, str]:
        """The log of every encoder's training that has one. No job declares it: it outlives one that fails."""
        folders = self.encoder_folders()
        return {name: f"{folders[name]}/{TRAINING_LOG}" for name in self.experiment.logged_encoders}
