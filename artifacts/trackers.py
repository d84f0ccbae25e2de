"""The log of a training shown elsewhere too: TensorBoard or Weights & Biases, where asked for and installed."""

import secrets
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from artifacts.errors import InputError
from artifacts.files import atomic_file

TrackerName = Literal["tensorboard", "wandb"]


class Trackers:
    """Show the lines of a training's log in the tools named; with none named, nothing is imported or written.

    Args:
        names: The tools; a package of each name must be installed.
        folder: The training's: TensorBoard reads from its `tensorboard/`, Weights & Biases keeps its
            files and the run's id in its `wandb/`.
        settings: What the training is: plain values, nested in dictionaries.

    Raises:
        InputError: A tool is not installed, or does not let the training in.
    """

    def __init__(self, names: Sequence[TrackerName], folder: Path, settings: dict[str, Any]) -> None:
        self._tools = [TOOLS[name](folder, settings) for name in dict.fromkeys(names)]

    def write(self, line: dict[str, Any]) -> None:
        """Show the numbers of a line of `log.jsonl` at its `step`.

        A number is named by its key, one in a dictionary by both keys, after the line's `split` if it has
        one: ``train/loss``, ``validation/codebook_perplexity/5``. Whatever is no number is left out.
        """
        numbers = _numbers(line)
        for tool in self._tools:
            tool.write(line["step"], numbers)

    def __enter__(self) -> "Trackers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for tool in self._tools:
            tool.close(failed=kind is not None)


class TensorBoard:
    """Event files, a new one for each time that the training is started."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self._module = _installed("torch.utils.tensorboard", "tensorboard")
        self._folder = folder / "tensorboard"
        self._writer: Any = None

    def write(self, step: int, numbers: dict[str, float]) -> None:
        """Add numbers by name."""
        if self._writer is None:
            # A training that was killed wrote lines of steps after its last checkpoint. It comes to the first of
            # them again, and from there on TensorBoard is told to forget what earlier files hold.
            self._writer = self._module.SummaryWriter(str(self._folder), purge_step=step)
        for name, number in numbers.items():
            self._writer.add_scalar(name, number, step)

    def close(self, failed: bool) -> None:
        """Write what is waiting."""
        if self._writer is not None:
            self._writer.close()


class WeightsAndBiases:
    """One run for a training, however often that is started; of steps that come again, wandb keeps the first."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        wandb = _installed("wandb", "wandb")
        try:
            self._run = wandb.init(
                dir=str(folder), config=settings, resume="allow", id=_run_id(folder / "wandb" / "id")
            )
        except wandb.Error as error:
            reason = str(error).partition("\n")[0]
            raise InputError(
                f"trackers: wandb did not start ({reason}); expected a login, or WANDB_MODE=offline"
            ) from None

    def write(self, step: int, numbers: dict[str, float]) -> None:
        """Add numbers by name."""
        self._run.log(numbers, step=step)

    def close(self, failed: bool) -> None:
        """Wait until all is sent."""
        self._run.finish(exit_code=int(failed))


TOOLS: dict[TrackerName, type[TensorBoard] | type[WeightsAndBiases]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
}


def _installed(module: str, package: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        raise InputError(
            f"trackers: found {package}, which is not installed; expected it: python -m pip install {package}"
        ) from None


def _run_id(path: Path) -> str:
    """The id of the training's run, drawn when it first starts."""
    if not path.exists():
        with atomic_file(path) as temporary:
            temporary.write_text(secrets.token_hex(8), encoding="utf-8")
    return path.read_text(encoding="utf-8")


def _numbers(line: dict[str, Any]) -> dict[str, float]:
    prefix = f"{line['split']}/" if "split" in line else ""
    named = {}
    for key, value in line.items():
        for inner, number in value.items() if isinstance(value, dict) else [("", value)]:
            # `type` and not isinstance: true and false are no numbers.
            if key != "step" and type(number) in (int, float):
                named[f"{prefix}{key}/{inner}".rstrip("/")] = number
    return named
