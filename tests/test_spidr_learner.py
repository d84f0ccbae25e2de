"""The objective of equation 3 and one training step, against slow and obvious oracles."""

import numpy as np
import pytest
import torch
from test_spidr_model import SMALL, waveforms
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn import functional

from artifacts.workers import ALONE
from spidr.batches import Batch
from spidr.codebook import instance_norm
from spidr.learner import Objective, SpidR, Tally, build_learner
from spidr.masking import sample_masked_frames
from spidr.schedules import teacher_decay
from spidr.settings import (
    Convolution,
    LinearTeacher,
    MaskingSettings,
    ModelSettings,
    OptimizerSettings,
    Recipe,
    TrainingSettings,
)
from spidr.step import Outcome, Stepper, build_optimizer, compiled

QUIET = SMALL.model_copy(update={"dropout": 0.0, "attention_dropout": 0.0, "layer_drop": 0.0})
DINOSR = QUIET.model_copy(update={"predict_from": "last_layer"})


def masked_frames(rows: int = 2, num_samples: int = 6400) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(sample_masked_frames(rng, rows, SMALL.num_frames(num_samples), MaskingSettings()))


def slow_losses(learner: SpidR, masked: torch.Tensor) -> list[float]:
    """Cross-entropy of each head, one masked frame at a time, with a teacher equal to the student."""
    frames = learner.student.frames(waveforms())
    corrupted = frames.clone()
    for row, indices in enumerate(masked.tolist()):
        for index in indices:
            corrupted[row, index] = learner.mask_embedding
    teacher, student = learner.teacher(frames), learner.student.transformer(corrupted)
    losses = []
    for k, layer in enumerate(learner.settings.codebook_layers):
        targets = instance_norm(teacher[layer].ffn)
        same_layer = learner.settings.predict_from == "same_layer"
        read = student[layer].ffn if same_layer else student[-1].block
        terms = []
        for row, indices in enumerate(masked.tolist()):
            for index in indices:
                label = (learner.codebooks.codewords[k] - targets[row, index]).square().sum(-1).argmin()
                logits = learner.heads.weight[k] @ read[row, index] + learner.heads.bias[k]
                terms.append(functional.cross_entropy(logits, label).item())
        losses.append(float(np.mean(terms)))
    return losses


@pytest.mark.parametrize("settings", [QUIET, DINOSR], ids=["spidr", "dinosr"])
def test_the_loss_is_equation_3(settings: ModelSettings) -> None:
    learner, masked = build_learner(settings, 0), masked_frames()
    expected = float(np.mean(slow_losses(learner, masked)))
    assert Objective.of(learner(waveforms(), masked)).loss.item() == pytest.approx(expected, rel=1e-4)


def test_a_dropped_layer_hands_its_input_on() -> None:
    transformer = build_learner(QUIET, 0).student.transformer
    frames = torch.randn(1, 20, 32)
    outputs = transformer(frames, kept=torch.tensor([True, False, True, True]))
    assert torch.equal(outputs[2].block, outputs[1].block)
    whole = transformer(frames)
    assert torch.equal(outputs[2].ffn, whole[2].ffn)  # what its head reads
    torch.testing.assert_close(outputs[3].ffn, transformer.layers[2](outputs[1].block).ffn)
    assert not torch.equal(outputs[3].ffn, whole[3].ffn)


def test_every_weight_has_a_gradient_whichever_layers_are_dropped() -> None:
    learner = build_learner(QUIET, 0)
    learner(waveforms(), masked_frames(), torch.tensor([True, False, False, True])).loss.backward()
    without = {name for name, weights in learner.named_parameters() if weights.requires_grad and weights.grad is None}
    assert not without


@pytest.mark.parametrize("frames", ["all", "masked"])
def test_codebooks_are_moved_by_all_frames_or_by_the_masked_ones(frames: str) -> None:
    learner, masked = build_learner(QUIET.model_copy(update={"codebook_frames": frames}), 0), masked_frames()
    tally = learner(waveforms(), masked)
    count = masked.numel() if frames == "masked" else 2 * SMALL.num_frames(6400)
    assert tally.clusters.counts.sum(-1).tolist() == [count] * 3
    loss = build_learner(QUIET, 0)(waveforms(), masked).loss
    torch.testing.assert_close(tally.loss, loss)  # predicted is at the masked frames either way


def test_tallies_of_batches_add_up_to_that_of_both() -> None:
    learner, masked = build_learner(QUIET, 0), masked_frames()
    whole = learner(waveforms(), masked)
    first, second = (learner(waveforms()[row], masked[row]) for row in (slice(0, 1), slice(1, 2)))
    for found, wanted in zip(_tensors(first.plus(second)), _tensors(whole), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-5)


def _tensors(tally: Tally) -> list[torch.Tensor]:
    return [*tally[:3], *tally.clusters]


def test_only_masked_frames_differ_for_the_student() -> None:
    learner = build_learner(QUIET, 0)
    seen = {}
    learner.student.transformer.register_forward_pre_hook(lambda _, inputs: seen.update(frames=inputs[0]))
    learner(waveforms(), masked_frames())
    frames = learner.student.frames(waveforms())
    is_masked = torch.zeros(frames.shape[:2], dtype=torch.bool).scatter(1, masked_frames(), True)
    assert torch.equal(seen["frames"][~is_masked], frames[~is_masked])
    assert (seen["frames"][is_masked] == learner.mask_embedding).all()


def test_the_teacher_follows_the_student_and_copies_its_positions() -> None:
    learner = build_learner(QUIET, 0)
    before = {name: tensor.clone() for name, tensor in learner.teacher.named_parameters()}
    with torch.no_grad():
        for parameter in learner.student.parameters():
            parameter.add_(torch.randn_like(parameter))
    learner.update_teacher(0.75)
    student = dict(learner.student.transformer.named_parameters())
    for name, tensor in learner.teacher.named_parameters():
        expected = student[name] if name.startswith("positions") else 0.75 * before[name] + 0.25 * student[name]
        torch.testing.assert_close(tensor, expected, msg=name)


def test_the_teacher_has_neither_gradient_nor_dropout() -> None:
    learner = build_learner(SMALL, 0).train()
    assert not any(module.training for module in learner.teacher.modules())
    learner(waveforms(), masked_frames()).loss.backward()
    assert all(parameter.grad is None for parameter in learner.teacher.parameters())
    assert learner.student.extractor.conv_layers[0].conv.weight.grad is not None
    assert learner.mask_embedding.grad is not None


def batch(rows: slice = slice(None), number: int = 0) -> Batch:
    return Batch(number, [], waveforms()[rows], masked_frames()[rows], None, {})


def step_once(learner: SpidR, recipe: Recipe, step: int = 0, *batches: Batch) -> Outcome:
    return Stepper(learner, recipe, 0, ALONE).step(batches or [batch()], step)


def recipe_of(model: ModelSettings, **optimizer: object) -> Recipe:
    return Recipe.model_validate(
        {"model": model.model_dump(), "optimizer": optimizer, "training": {"precision": "float32"}}
    )


def test_a_step_moves_student_codebooks_and_teacher() -> None:
    learner = build_learner(SMALL, 0).train()
    before = {name: tensor.clone() for name, tensor in learner.state_dict().items()}
    step_once(learner, recipe_of(SMALL, initial_ratio=1.0, learning_rate=0.01))
    moved = {name for name, tensor in learner.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {"mask_embedding", "heads.weight", "codebooks.sums", "codebooks.counts"} < moved
    assert {"student.extractor.conv_layers.0.conv.weight", "teacher.layers.3.feed_forward.fc2.weight"} < moved


def test_extractor_and_projection_stay_from_the_freeze_step_on() -> None:
    recipe = recipe_of(SMALL, freeze_extractor_step=10, initial_ratio=1.0, warmup_steps=0, hold_steps=100)
    learner = build_learner(SMALL, 0).train()
    for step, stays in ((9, False), (10, True), (11, True)):
        before = {name: tensor.clone() for name, tensor in learner.student.named_parameters()}
        step_once(learner, recipe, step)
        for name, tensor in learner.student.named_parameters():
            if name.startswith(("extractor", "projection")):
                assert torch.equal(tensor, before[name]) == stays, name
        assert not torch.equal(
            learner.student.transformer.layers[0].attention.qkv_proj.weight,
            before["transformer.layers.0.attention.qkv_proj.weight"],
        )


def test_dinosrs_teacher_stays_as_it_is_from_the_freeze_step_on() -> None:
    teacher = LinearTeacher(schedule="linear", freeze_step=10)
    recipe = recipe_of(DINOSR, initial_ratio=1.0, learning_rate=0.01).model_copy(update={"teacher": teacher})
    learner = build_learner(DINOSR, 0).train()
    for step, stays in ((9, False), (10, True), (11, True)):
        before = {name: tensor.clone() for name, tensor in learner.teacher.named_parameters()}
        step_once(learner, recipe, step)
        same = [torch.equal(tensor, before[name]) for name, tensor in learner.teacher.named_parameters()]
        assert all(same) == stays


def test_spidrs_teacher_copies_positions_even_where_its_decay_has_reached_one() -> None:
    late = 10**6
    learner = build_learner(QUIET, 0).train()
    recipe = recipe_of(QUIET, learning_rate=0.01, final_ratio=1.0)
    assert teacher_decay(late, recipe.teacher) == 1
    before = {name: tensor.clone() for name, tensor in learner.teacher.named_parameters()}
    step_once(learner, recipe, late)
    for name, tensor in learner.teacher.named_parameters():
        assert torch.equal(tensor, before[name]) != name.startswith("positions"), name


def test_a_step_of_several_batches_is_that_of_one_large_batch() -> None:
    recipe = recipe_of(QUIET, initial_ratio=1.0)
    learners = [build_learner(QUIET, 0).train() for _ in range(2)]
    outcomes = [
        step_once(learners[0], recipe, 0, batch()),
        step_once(learners[1], recipe, 0, batch(slice(0, 1)), batch(slice(1, 2), number=1)),
    ]
    torch.testing.assert_close(outcomes[1], outcomes[0], atol=1e-5, rtol=1e-5)
    expected = learners[0].state_dict()
    for name, tensor in learners[1].state_dict().items():
        torch.testing.assert_close(tensor, expected[name], atol=1e-5, rtol=1e-4, msg=name)


def test_the_gradient_is_clipped() -> None:
    recipe = recipe_of(QUIET, clip_norm=1e-3)
    learner = build_learner(QUIET, 0).train()
    assert step_once(learner, recipe).gradient_norm > 1e-3
    clipped = torch.cat([p.grad.flatten() for p in learner.parameters() if p.grad is not None]).norm()
    assert clipped.item() == pytest.approx(1e-3, rel=1e-3)


def test_the_gradient_is_that_of_the_mean_over_masked_frames() -> None:
    learner = build_learner(QUIET, 0).train()
    stepper = Stepper(learner, recipe_of(QUIET, clip_norm=1e9), 0, ALONE)
    parameters = dict(learner.named_parameters())
    loss = Objective.of(learner(waveforms(), masked_frames())).loss
    learnt = [weights for weights in parameters.values() if weights.requires_grad]
    expected = torch.autograd.grad(loss, learnt)
    outcome = stepper.step([batch()], 0)
    for weights, gradient in zip(learnt, expected, strict=True):
        torch.testing.assert_close(weights.grad, gradient, atol=1e-6, rtol=1e-4)
    assert outcome.gradient_norm.item() == pytest.approx(torch.cat([g.flatten() for g in expected]).norm().item())


def test_bfloat16_changes_the_loss_by_rounding_only() -> None:
    losses = []
    for precision in ("float32", "bfloat16"):
        recipe = recipe_of(QUIET).model_copy(update={"training": TrainingSettings(precision=precision)})
        objective = step_once(build_learner(QUIET, 0).train(), recipe).objective
        assert objective.loss.dtype == objective.codebook_perplexity.dtype == torch.float32
        losses.append(objective.loss.item())
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_default_optimizer_is_adamw_of_table_5() -> None:
    (group,) = build_optimizer(list(build_learner(SMALL, 0).parameters()), OptimizerSettings()).param_groups
    assert (group["lr"], group["betas"], group["weight_decay"], group["eps"]) == (5e-4, (0.9, 0.95), 0.01, 1e-6)


def test_the_forward_pass_is_one_graph_for_all_lengths() -> None:
    # Kernels that reach beyond a stride, as table 5's: what they leave over differs from length to length.
    extractor = (Convolution(16, 10, 5), Convolution(16, 3, 2), Convolution(16, 3, 2), Convolution(16, 2, 2))
    settings = QUIET.model_copy(update={"extractor": extractor, "num_layers": 2, "num_codebooks": 1})
    learner = build_learner(settings, 0).train()
    counter = CompileCounterWithBackend("aot_eager")
    forward = compiled(learner, counter)  # a break would raise
    kept = torch.tensor([True, False])
    compilations = []
    for rows, num_samples in ((3, 1600), (4, 2107), (5, 1883), (6, 1721), (4, 2050)):
        masked = torch.arange(settings.num_frames(num_samples) // 2).repeat(rows, 1)
        batch = waveforms(rows, num_samples), masked, kept
        found, expected = forward(*batch), learner(*batch)
        for mine, theirs in zip(_tensors(found), _tensors(expected), strict=True):
            torch.testing.assert_close(mine, theirs, atol=1e-3, rtol=1e-4)
        learner.zero_grad()
        found.loss.backward()
        assert learner.mask_embedding.grad is not None
        compilations.append(counter.frame_count)
    assert compilations == [compilations[0]] * 5  # other lengths compile nothing
