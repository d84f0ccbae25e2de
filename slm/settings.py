"""The language models of an experiment, and how one is trained.

Defaults are the paper's (section 4.1). What it leaves to "the defaults of OPT-125M" is transformers'
`OPTConfig` for the network, and for the optimiser the defaults of SlamKit, the framework it names.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from artifacts.settings import Settings
from artifacts.trackers import TrackerName
from slm.packing import Documents

Rate = Annotated[float, Field(ge=0, lt=1)]


class ModelSettings(Settings):
    """The network: OPT (Zhang et al., 2022) of these numbers, another causal model of transformers, or one of text.

    Its vocabulary is that of the tokens, whatever it is. Weights are drawn at random, or all but the embeddings
    are those of a language model of text (TWIST; Hassid et al., 2023).
    """

    hidden_size: PositiveInt = 768
    """Width of the residual stream and of the embeddings. transformers: hidden_size, word_embed_proj_dim"""
    num_layers: PositiveInt = 12
    """Transformer blocks. transformers: num_hidden_layers"""
    num_heads: PositiveInt = 12
    """Attention heads. transformers: num_attention_heads"""
    ffn_size: PositiveInt = 3072
    """Width inside the feed-forward layers. transformers: ffn_dim"""
    context: int = Field(default=2048, ge=2)
    """Longest input in tokens, and the number of learned positions. transformers: max_position_embeddings.
    With `init` the positions are those of the text's model; the context may be shorter."""
    dropout: Rate = 0.1
    """Dropout after attention and feed-forward, OPT's default. SlamKit trains with 0.0."""
    attention_dropout: Rate = 0.0
    """Dropout of the attention weights, OPT's default."""
    init_std: PositiveFloat = 0.02
    """Standard deviation of the initial weights, OPT's default."""
    architecture: dict[str, Any] | None = None
    """Another model than OPT by the numbers above: keys of its configuration in transformers, `model_type` among
    them (`{model_type: llama, hidden_size: 768, ...}`). With `init`: what differs from the text's model
    (`{dropout: 0.0}`). Vocabulary, special tokens and positions follow from the tokens and `context`."""
    init: str | None = None
    """Folder, or name on the hub, of a language model of text whose weights to start from. Its embeddings, and
    what predicts tokens from the last layer, are drawn anew for the units; the rest is kept, and so is its shape."""

    @model_validator(mode="after")
    def _describes_one_model(self) -> Self:
        if self.architecture is None and self.init is None:
            return self
        given = sorted(self.model_fields_set - {"architecture", "init", "context"})
        numbers = [key for key in given if getattr(self, key) != type(self).model_fields[key].default]
        if numbers:
            raise ValueError(f"{numbers[0]}: a number of OPT, expected it in architecture, as that model calls it")
        if self.init is None and "model_type" not in (self.architecture or {}):
            raise ValueError("architecture: found no model_type, expected one, such as llama")
        return self

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size: found {self.hidden_size}, expected a multiple of num_heads {self.num_heads}"
            )
        return self


class OptimizerSettings(Settings):
    """AdamW; the learning rate rises linearly, then falls along half a cosine."""

    learning_rate: PositiveFloat = 1e-3
    """Peak learning rate. SlamKit's; OPT-125M on text had 6e-4."""
    final_learning_rate: float = Field(default=5e-5, ge=0)
    """Learning rate of the last step. SlamKit: min_lr"""
    warmup_steps: NonNegativeInt = 1000
    """Steps of the linear rise. SlamKit's: 1% of the steps, at least 100."""
    clip_norm: PositiveFloat = 0.5
    """Largest norm of the gradient. SlamKit: max_grad_norm"""
    betas: tuple[Rate, Rate] = (0.9, 0.999)
    """Decays of Adam's moments, transformers' default."""
    epsilon: PositiveFloat = 1e-8
    """Adam's epsilon, transformers' default."""
    weight_decay: float = Field(default=0.0, ge=0)
    """AdamW's weight decay, transformers' default."""

    @model_validator(mode="after")
    def _rate_falls(self) -> Self:
        if self.final_learning_rate > self.learning_rate:
            raise ValueError(
                f"final_learning_rate: found {self.final_learning_rate}, "
                f"expected at most learning_rate {self.learning_rate}"
            )
        return self


class TrainingSettings(Settings):
    """How much is trained, and how often to look. A step sees batch_size x accumulation contexts."""

    steps: PositiveInt = 100_000
    """Updates of the weights; the paper takes 500,000 on 60k hours."""
    batch_size: PositiveInt = 16
    """Contexts that go through the network at once."""
    accumulation: PositiveInt = 4
    """Batches whose gradients make one update. Devices share them: a multiple of their number."""
    documents: Documents = "apart"
    """Whether the utterances of a context see each other: `apart`, attention and positions are each one's own;
    `together`, they are the context's. Validation and scores have every utterance alone."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Arithmetic of the matrix products (autocast); weights, loss and validation are float32 always."""
    compile: bool = True
    """Compile the network's blocks on a GPU (torch.compile, which takes a minute at the start), attention with them."""
    validate_every: PositiveInt = 1000
    """Steps between two validations, SlamKit's default; the last step always has one."""
    checkpoint_every: PositiveInt = 1000
    """Steps between two checkpoints; the last step always has one."""
    log_every: PositiveInt = 100
    """Steps between two lines of the log on the training loss."""
    keep_checkpoints: PositiveInt = 2
    """How many of the newest checkpoints are kept."""
    trackers: tuple[TrackerName, ...] = ()
    """What else is told of the log, where it is installed: tensorboard, wandb."""


class SlmRecipe(Settings):
    """One way to train one language model."""

    model: ModelSettings = ModelSettings()
    """The network."""
    optimizer: OptimizerSettings = OptimizerSettings()
    """AdamW and its learning rate."""
    training: TrainingSettings = TrainingSettings()
    """How much is trained, and what is written meanwhile."""

    @model_validator(mode="after")
    def _warmup_ends(self) -> Self:
        if self.optimizer.warmup_steps > self.training.steps:
            raise ValueError(
                f"optimizer.warmup_steps: found {self.optimizer.warmup_steps}, "
                f"expected at most training.steps {self.training.steps}"
            )
        return self


class Slm(Settings):
    """A language model of an experiment: one is trained for each system and seed."""

    recipe: str
    """Training recipe, a YAML file beside the experiment file."""
    train: list[str] = Field(min_length=1)
    """Corpora it is trained on."""
    corpus: str | None = Field(default=None, min_length=1)
    """What those of `train` are together, as scores and tables say it: `librilight-medium` of Libri-Light's first two
    parts. By default their names, joined by `+`. Scores from elsewhere are set beside those on a corpus of one name."""
    validation: str
    """Corpus whose loss selects the checkpoint: one that shares no speaker and no utterance with those trained on."""
    hours: PositiveFloat | None = None
    """Train on so many hours of `train`, drawn by the experiment's seed: fewer hours lie within more (figure 3). All
    of `train` by default. Needs units that know how long they last."""
    systems: list[str] | None = None
    """The encoder-layer-quantizer combinations that it is trained for; the experiment's `systems` by default."""
    follow: list[str] = []
    """Zero-shot metrics of `evaluation` to watch while it learns: at each validation, the share of its set's pairs
    whose correct stimulus is the likelier, in the training's log. The training is the same without, and the metrics
    are not these: they weigh voices and items."""
    seeds: list[NonNegativeInt] = Field(default=[0], min_length=1)
    """One model is trained for each; added to the experiment's seed."""
