"""Settings of a fine-tuning by Spin; a recipe in ``config/spin/`` is one `SpinRecipe`.

Every default is that of Chang et al. (2023, arXiv 2305.11072) and their released configuration.
"""

from math import ceil
from typing import Annotated, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from artifacts.device import Precision
from artifacts.settings import Settings
from artifacts.trackers import TrackerName
from spidr.settings import SAMPLE_RATE_HZ

HUB_TYPES = ("hubert", "wavlm")
"""``model_type`` of transformers' models that are fine-tuned."""
LOWEST_F0_HZ = 20.0
"""A wide range of f0 round a low median would go below zero, where Praat gives silence."""
PERIODS = 3
"""Of the lowest f0, that Praat's analysis wants."""
Rate = Annotated[float, Field(ge=0, lt=1)]
Ratio = Annotated[float, Field(ge=1)]


class ModelSettings(Settings):
    """What is fine-tuned, the head, the codebook, and the targets of the swapped prediction."""

    frozen_blocks: NonNegativeInt = 10
    """Blocks that stay as they are, from the first on, with all that comes before them; the others are fine-tuned."""
    head_size: PositiveInt = 256
    """Width that the last layer is projected to."""
    codebook_size: int = Field(default=256, ge=2)
    """K, the number of codes: 128 to 2048 in the paper."""
    temperature: PositiveFloat = 0.1
    """What cosines are divided by where codes are predicted."""
    epsilon: float = Field(default=0.02, ge=0.0125)
    """What cosines are divided by where targets are made. Lower, float32 does not hold the exponential of 1 / epsilon,
    summed over the frames."""
    iterations: PositiveInt = 3
    """Sinkhorn's: how often codes, then frames, are given equal weight."""


class PerturbationSettings(Settings):
    """How the second view sounds like another speaker (NANSY: Choi et al. 2021, arXiv 2110.14513).

    A ratio of at most r is drawn uniformly from [1, r], and inverted half of the time.
    """

    formant_ratio: Ratio = 1.4
    """Most that formants are shifted by."""
    pitch_ratio: Ratio = 2.0
    """Most that the median of f0 is shifted by."""
    range_ratio: Ratio = 1.5
    """Most that f0's distance to its median is stretched by."""
    pitch_floor_hz: PositiveFloat = 75.0
    """Lowest f0 that is looked for. The original's are 75 and 100 Hz for men and women; a manifest has no sex."""
    pitch_ceiling_hz: PositiveFloat = 600.0
    """Highest f0 that is looked for. The original's are 250 and 400 Hz."""
    bands: int = Field(default=10, ge=3)
    """Bands of the equaliser: a low shelf, peaks, a high shelf."""
    lowest_hz: PositiveFloat = 60.0
    """Frequency of the low shelf; those of the bands are equally far apart on a logarithmic scale."""
    highest_hz: float = Field(default=7600.0, gt=0, lt=8000)
    """Frequency of the high shelf."""
    lowest_q: PositiveFloat = 2.0
    """Smallest quality factor of a band, drawn log-uniformly."""
    highest_q: PositiveFloat = 5.0
    """Largest quality factor of a band."""
    gain_db: float = Field(default=12.0, ge=0)
    """Most that a band is raised or lowered by, drawn uniformly."""

    @model_validator(mode="after")
    def _limits_rise(self) -> Self:
        for low, high in (
            ("pitch_floor_hz", "pitch_ceiling_hz"),
            ("lowest_hz", "highest_hz"),
            ("lowest_q", "highest_q"),
        ):
            if not getattr(self, low) < getattr(self, high):
                raise ValueError(f"{low}: found {getattr(self, low):g}, expected less than {high}")
        lowest = LOWEST_F0_HZ * self.pitch_ratio
        if self.pitch_floor_hz < lowest:
            raise ValueError(
                f"pitch_floor_hz: found {self.pitch_floor_hz:g}, expected at least {lowest:g}: "
                f"{LOWEST_F0_HZ:g} times pitch_ratio"
            )
        return self


class OptimizerSettings(Settings):
    """Adam, with a learning rate that rises and falls linearly."""

    learning_rate: PositiveFloat = 1e-4
    """Peak learning rate."""
    initial_learning_rate: float = Field(default=1e-6, ge=0)
    """That of the first step."""
    final_learning_rate: float = Field(default=1e-6, ge=0)
    """That of the last step."""
    warmup_steps: NonNegativeInt = 2500
    """Steps of the rise."""
    decay_steps: NonNegativeInt = 2500
    """Steps of the fall."""
    betas: tuple[Rate, Rate] = (0.9, 0.999)
    """Decays of Adam's moments."""
    epsilon: PositiveFloat = 1e-8
    """Adam's epsilon."""
    weight_decay: float = Field(default=1e-6, ge=0)
    """Adam's weight decay, as part of the gradient."""
    clip_norm: PositiveFloat = 10.0
    """Largest norm of the gradient."""


class BatchSettings(Settings):
    """How utterances are put together: as in a pretraining, one batch a step, and nothing is ever padded.

    Utterances share a batch with others of their length's bucket, and are cropped, at random, to its shortest:
    padding would change the features of group-norm models.
    """

    min_samples: PositiveInt = 40_000
    """Shorter utterances are left out: 2.5 s."""
    max_samples: PositiveInt = 272_000
    """Longer utterances are cropped at random: 17 s."""
    max_batch_samples: PositiveInt = 4_096_000
    """Most samples in a batch, before the second view doubles them: 256 s."""
    num_buckets: PositiveInt = 145
    """Buckets of equal width between the two lengths: 0.1 s each."""

    @model_validator(mode="after")
    def _lengths_rise(self) -> Self:
        if not self.min_samples < self.max_samples <= self.max_batch_samples:
            raise ValueError(
                f"max_samples: found {self.max_samples}, expected more than min_samples {self.min_samples} "
                f"and at most max_batch_samples {self.max_batch_samples}"
            )
        return self


class TrainingSettings(Settings):
    """How long, how precisely, and how often to look."""

    steps: NonNegativeInt | None = None
    """Steps to train for; null: to the end of the learning rate's fall."""
    log_every: PositiveInt = 100
    """Steps between two lines of the log."""
    checkpoint_every: PositiveInt = 500
    """Steps between two checkpoints; the last step always has one."""
    keep_checkpoints: PositiveInt = 2
    """How many of the newest checkpoints are kept."""
    trackers: tuple[TrackerName, ...] = ()
    """What else is told of the log, where it is installed: tensorboard, wandb."""
    precision: Precision = "bfloat16"
    """Arithmetic of the encoder's matrix products (autocast); weights, head, codebook and loss are float32 always."""


class SpinRecipe(Settings):
    """One way to fine-tune one encoder."""

    model: ModelSettings = ModelSettings()
    """What is fine-tuned, head, codebook, targets."""
    perturbation: PerturbationSettings = PerturbationSettings()
    """The second view."""
    optimizer: OptimizerSettings = OptimizerSettings()
    """Adam and its learning rate."""
    batches: BatchSettings = BatchSettings()
    """How batches are made."""
    training: TrainingSettings = TrainingSettings()
    """How long to train, and what to write meanwhile."""

    @model_validator(mode="after")
    def _crops_hold_periods(self) -> Self:
        shortest = ceil(PERIODS * SAMPLE_RATE_HZ / self.perturbation.pitch_floor_hz)
        if self.batches.min_samples < shortest:
            raise ValueError(
                f"batches.min_samples: found {self.batches.min_samples}, expected at least {shortest}: "
                f"{PERIODS} periods of perturbation.pitch_floor_hz, to find f0 in"
            )
        return self

    @property
    def num_steps(self) -> int:
        """Steps of the whole training."""
        if self.training.steps is not None:
            return self.training.steps
        return self.optimizer.warmup_steps + self.optimizer.decay_steps


def learning_rate(step: int, settings: OptimizerSettings) -> float:
    """Learning rate of a step, from 0: linear to the peak, linear to the last step's, then constant."""
    peak, first, last = settings.learning_rate, settings.initial_learning_rate, settings.final_learning_rate
    if step < settings.warmup_steps:
        return first + (peak - first) * step / settings.warmup_steps
    fallen = min(1.0, (step - settings.warmup_steps) / max(1, settings.decay_steps - 1))
    return peak + (last - peak) * fallen
