"""Settings of a training, after table 5 of the paper; a recipe in ``config/spidr/`` is one `Recipe`.

Every default is the value of table 5, which is SpidR Base. `fairseq:` gives the name in DinoSR's
original configuration where it has one.
"""

from math import prod
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from artifacts.settings import Settings
from artifacts.trackers import TrackerName

SAMPLE_RATE_HZ = 16000
"""As `corpora.audio`, which settings do not import: it loads libsndfile."""

Probability = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Decay = Annotated[float, Field(gt=0, le=1)]


class Convolution(NamedTuple):
    """One convolution of the extractor."""

    channels: PositiveInt
    kernel: PositiveInt
    stride: PositiveInt


TABLE_5_EXTRACTOR = (
    Convolution(512, 10, 5),
    *[Convolution(512, 3, 2)] * 4,
    *[Convolution(512, 2, 2)] * 2,
)


class ModelSettings(Settings):
    """The encoder, its prediction heads and its codebooks."""

    extractor: tuple[Convolution, ...] = Field(default=TABLE_5_EXTRACTOR, min_length=1)
    """[channels, kernel, stride] of each convolution, without bias. fairseq: conv_feature_layers"""
    hidden_size: PositiveInt = 768
    """d, the width of the Transformer. fairseq: encoder_embed_dim"""
    num_layers: PositiveInt = 12
    """L, the number of Transformer layers. fairseq: encoder_layers"""
    num_heads: PositiveInt = 12
    """Attention heads. fairseq: encoder_attention_heads"""
    ffn_size: PositiveInt = 3072
    """Feed-forward dimension. fairseq: encoder_ffn_embed_dim"""
    position_layers: PositiveInt = 5
    """Positional convolutions. fairseq: pos_conv_depth"""
    position_kernel: PositiveInt = 95
    """Total kernel size of the positional convolutions, shared out evenly (95 / 5 = 19). fairseq: conv_pos"""
    position_groups: PositiveInt = 16
    """Groups of the positional convolutions. fairseq: conv_pos_groups"""
    qkv_bias: bool = False
    """Biases in the Q, K and V projections: without them the weights' norm stays bounded (section 4.1)."""
    projection_dropout: Rate = 0.0
    """Dropout on the projected frames. fairseq: dropout_input"""
    dropout: Rate = 0.1
    """Dropout on the Transformer's input and on each branch's output. fairseq: dropout"""
    attention_dropout: Rate = 0.1
    """Dropout on the attention weights. fairseq: attention_dropout"""
    ffn_dropout: Rate = 0.0
    """Dropout inside the feed-forward network. fairseq: activation_dropout"""
    layer_drop: Rate = 0.05
    """Probability that a batch goes past a layer of the student. fairseq: encoder_layerdrop"""
    num_codebooks: PositiveInt = 8
    """K: the last K layers have a codebook and a prediction head. fairseq: average_top_k_layers"""
    codebook_size: int = Field(default=256, ge=2)
    """V, the number of codewords of a codebook. fairseq: codebook_size"""
    codebook_decay: Decay = 0.9
    """tau, the decay of the codebooks (equation 4). fairseq: codebook_init_decay"""
    codebook_frames: Literal["all", "masked"] = "all"
    """Frames that move the codebooks and that their perplexity is of: all (section 3), or the masked ones, as in the
    released code."""
    predict_from: Literal["same_layer", "last_layer"] = "same_layer"
    """What head k reads: the student's layer k (SpidR), or its last layer whatever k (DinoSR)."""

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        _divides("num_heads", self.num_heads, "hidden_size", self.hidden_size)
        _divides("position_groups", self.position_groups, "hidden_size", self.hidden_size)
        _divides("position_layers", self.position_layers, "position_kernel", self.position_kernel)
        if self.position_kernel // self.position_layers % 2 == 0:
            raise ValueError(
                f"position_kernel: found {self.position_kernel} over {self.position_layers} layers, "
                "expected an odd kernel in each, so that frames keep their number"
            )
        if self.num_codebooks > self.num_layers:
            raise ValueError(
                f"num_codebooks: found {self.num_codebooks}, expected at most num_layers {self.num_layers}"
            )
        for conv in self.extractor:
            if conv.kernel < conv.stride:
                raise ValueError(
                    f"extractor: found a kernel of {conv.kernel}, expected at least its stride {conv.stride}"
                )
        if SAMPLE_RATE_HZ % self.hop != 0:
            raise ValueError(f"extractor: found a hop of {self.hop} samples, expected a divisor of {SAMPLE_RATE_HZ}")
        return self

    @property
    def hop(self) -> int:
        """Samples from one frame to the next: 320."""
        return prod(layer.stride for layer in self.extractor)

    @property
    def receptive_field(self) -> int:
        """Samples that one frame sees: 400."""
        field, hop = 1, 1
        for layer in self.extractor:
            field += (layer.kernel - 1) * hop
            hop *= layer.stride
        return field

    @property
    def frame_rate_hz(self) -> float:
        """Frames per second: 50."""
        return SAMPLE_RATE_HZ / self.hop

    def num_frames(self, num_samples: int) -> int:
        """Frames of a waveform: 0 where it is shorter than the receptive field."""
        return max(0, (num_samples - self.receptive_field) // self.hop + 1)

    @property
    def codebook_layers(self) -> list[int]:
        """The layers that have a codebook and a head, counted from 1: 5 to 12.

        Equation 3's sum runs over K + 1 layers as printed; there are K.
        """
        return list(range(self.num_layers - self.num_codebooks + 1, self.num_layers + 1))


def _divides(key: str, value: int, of: str, whole: int) -> None:
    if whole % value != 0:
        raise ValueError(f"{key}: found {value}, expected a divisor of {of} {whole}")


class ExponentialTeacher(Settings):
    """SpidR's teacher: decay 1 - (1 - beta_0) exp(-t / T) at step t (section 4.1)."""

    schedule: Literal["exponential"] = "exponential"
    """Approach 1 smoothly."""
    initial_decay: Probability = 0.999
    """beta_0, the decay at step 0."""
    timescale: PositiveFloat = 10000
    """T, in steps."""


class LinearTeacher(Settings):
    """DinoSR's teacher: a linear warm-up of the decay, a plateau, then no change at all."""

    schedule: Literal["linear"]
    """Rise linearly, stay, freeze."""
    initial_decay: Probability = 0.999
    """Decay at step 0. fairseq: ema_decay"""
    final_decay: Probability = 0.9999
    """Decay from `warmup_steps` on. fairseq: ema_end_decay"""
    warmup_steps: PositiveInt = 30000
    """Steps of the rise. fairseq: ema_anneal_end_step"""
    freeze_step: NonNegativeInt | None = 200000
    """Step from which the teacher stays as it is. fairseq: freeze_teacher_step"""


TeacherSettings = Annotated[ExponentialTeacher | LinearTeacher, Field(discriminator="schedule")]
"""How the teacher follows the student."""


class MaskingSettings(Settings):
    """Which frames the student does not see (appendix A.2); spans may overlap."""

    start_probability: Probability = 0.08
    """Share of the frames that start a span. fairseq: mask_prob, there times the span length"""
    span_length: PositiveInt = 10
    """Frames of a span. fairseq: mask_length"""


class OptimizerSettings(Settings):
    """AdamW, with a learning rate of three stages (section 4.1, figure 5)."""

    learning_rate: PositiveFloat = 5e-4
    """Peak learning rate."""
    initial_ratio: Decay = 0.01
    """Learning rate of step 0 over the peak's. fairseq: init_lr_scale"""
    final_ratio: Decay = 0.01
    """Learning rate of the end over the peak's. fairseq: final_lr_scale"""
    warmup_steps: NonNegativeInt = 12000
    """Steps of the linear rise."""
    hold_steps: NonNegativeInt = 188000
    """Steps at the peak."""
    decay_steps: NonNegativeInt = 200000
    """Steps of the exponential fall."""
    betas: tuple[Rate, Rate] = (0.9, 0.95)
    """Decays of Adam's moments."""
    epsilon: PositiveFloat = 1e-6
    """Adam's epsilon."""
    weight_decay: float = Field(default=0.01, ge=0)
    """AdamW's weight decay, on every parameter as in fairseq."""
    clip_norm: PositiveFloat = 10.0
    """Largest norm of the gradient. Not in table 5: the released code's."""
    freeze_extractor_step: NonNegativeInt | None = 200000
    """Step from which the extractor and its projection stay as they are. fairseq: freeze_pre_enc_modules"""


class BatchSettings(Settings):
    """How utterances are put together; nothing is ever padded (appendix A.1)."""

    min_samples: PositiveInt = 2000
    """Shorter utterances are left out. fairseq: min_sample_size"""
    max_samples: PositiveInt = 320_000
    """Longer utterances are cropped at random. fairseq: max_sample_size"""
    max_batch_samples: PositiveInt = 3_800_000
    """Most samples in a batch, which one device holds. fairseq: max_tokens"""
    batches_per_step: PositiveInt = 16
    """Batches that a step learns from, shared out evenly over the devices, of which the paper has 16. One with fewer
    takes several in turn and learns the same."""
    num_buckets: PositiveInt = 1000
    """Buckets of equal width between the two lengths; utterances are shuffled within theirs."""

    @model_validator(mode="after")
    def _lengths_rise(self) -> Self:
        if not self.min_samples < self.max_samples <= self.max_batch_samples:
            raise ValueError(
                f"max_samples: found {self.max_samples}, expected more than min_samples {self.min_samples} "
                f"and at most max_batch_samples {self.max_batch_samples}"
            )
        return self


class TrainingSettings(Settings):
    """How long, how precisely, and how often to look: what is learnt is the same but for `precision`."""

    steps: NonNegativeInt | None = None
    """Steps to train for; null: to the end of the learning rate's three stages."""
    log_every: PositiveInt = 100
    """Steps between two lines of the log."""
    validate_every: PositiveInt = 5000
    """Steps between two validations; the last step always has one."""
    checkpoint_every: PositiveInt = 5000
    """Steps between two checkpoints; the last step always has one."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """How many of the newest checkpoints are kept."""
    bad_audio: Literal["fail", "skip"] = "fail"
    """An audio file that is not what the manifest says stops the training, or is left out, named and counted. Ten
    batches in a row of such files alone stop it too: the disk is gone."""
    compile: bool = True
    """Compile the forward and backward pass on a GPU (torch.compile, which takes minutes at the start)."""
    trackers: tuple[TrackerName, ...] = ()
    """What else is told of the log, where it is installed: tensorboard, wandb."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Arithmetic of the matrix products (autocast); weights, codebooks and loss are float32 always."""


class Recipe(Settings):
    """One way to train one encoder."""

    model: ModelSettings = ModelSettings()
    """The network."""
    teacher: TeacherSettings = ExponentialTeacher()
    """How the teacher follows the student."""
    masking: MaskingSettings = MaskingSettings()
    """Which frames are masked."""
    optimizer: OptimizerSettings = OptimizerSettings()
    """AdamW and its learning rate."""
    batches: BatchSettings = BatchSettings()
    """How batches are made."""
    training: TrainingSettings = TrainingSettings()
    """How long to train, and what to write meanwhile."""

    @model_validator(mode="after")
    def _frames_to_learn_from(self) -> Self:
        if self.batches.min_samples < self.model.receptive_field:
            raise ValueError(
                f"batches.min_samples: found {self.batches.min_samples}, "
                f"expected at least the extractor's receptive field, {self.model.receptive_field}"
            )
        return self

    @property
    def num_steps(self) -> int:
        """Steps of the whole training."""
        if self.training.steps is not None:
            return self.training.steps
        return self.optimizer.warmup_steps + self.optimizer.hold_steps + self.optimizer.decay_steps
