"""The objective of equation 3 and one training step, against slow and obvious oracles."""

import numpy as np
import pytest
import torch
from test_spidr_model import SMALL, waveforms
from torch.nn import functional

from spidr.codebook import instance_norm
from spidr.learner import SpidR, build_learner, draw_kept_layers
from spidr.masking import sample_masked_frames
from spidr.schedules import teacher_decay
from spidr.settings import LinearTeacher, MaskingSettings, ModelSettings, OptimizerSettings, Recipe, TrainingSettings
from spidr.step import build_optimizer, training_step

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
    assert learner(waveforms(), masked).loss.item() == pytest.approx(expected, rel=1e-4)


def test_the_head_of_a_dropped_layer_counts_for_nothing() -> None:
    learner, masked = build_learner(QUIET, 0), masked_frames()
    kept = [True, True, False, True]
    loss = learner(waveforms(), masked, kept).loss
    loss.backward()
    assert learner.heads.weight.grad is not None
    assert [bool(grad.any()) for grad in learner.heads.weight.grad] == [True, False, True]
    learner.student.transformer.layers[2] = torch.nn.Identity()  # not called
    assert learner(waveforms(), masked, kept).loss.item() == loss.item()


def test_a_dropped_layer_hands_its_input_on() -> None:
    transformer = build_learner(QUIET, 0).student.transformer
    frames = torch.randn(1, 20, 32)
    outputs = transformer(frames, kept=[True, False, True, True])
    assert outputs[2].block is outputs[1].block
    assert not outputs[2].ffn.any()


def test_layers_are_dropped_as_often_as_asked_and_some_head_always_stays() -> None:
    often = SMALL.model_copy(update={"layer_drop": 0.5})
    draws = np.array([draw_kept_layers(often, 0, step) for step in range(2000)])
    assert draws[:, 0].mean() == pytest.approx(0.5 + 0.5**4, abs=0.04)  # no head left: all are kept
    assert draws[:, 1:].any(axis=1).all()
    assert draw_kept_layers(often, 0, 7) == draw_kept_layers(often, 0, 7)


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


def step_once(learner: SpidR, recipe: Recipe, step: int = 0) -> None:
    optimizer = build_optimizer(learner, recipe.optimizer)
    training_step(learner, optimizer, waveforms(), masked_frames(), recipe, 0, step)


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


def test_the_gradient_is_clipped() -> None:
    recipe = recipe_of(QUIET, clip_norm=1e-3)
    learner = build_learner(QUIET, 0).train()
    optimizer = build_optimizer(learner, recipe.optimizer)
    _, norm = training_step(learner, optimizer, waveforms(), masked_frames(), recipe, 0, 0)
    assert norm > 1e-3
    clipped = torch.cat([p.grad.flatten() for p in learner.parameters() if p.grad is not None]).norm()
    assert clipped.item() == pytest.approx(1e-3, rel=1e-3)


def test_bfloat16_changes_the_loss_by_rounding_only() -> None:
    losses = []
    for precision in ("float32", "bfloat16"):
        recipe = recipe_of(QUIET).model_copy(update={"training": TrainingSettings(precision=precision)})
        learner = build_learner(QUIET, 0).train()
        optimizer = build_optimizer(learner, recipe.optimizer)
        objective, _ = training_step(learner, optimizer, waveforms(), masked_frames(), recipe, 0, 0)
        assert objective.loss.dtype == objective.clusters.sums.dtype == torch.float32
        losses.append(objective.loss.item())
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_default_optimizer_is_adamw_of_table_5() -> None:
    (group,) = build_optimizer(build_learner(SMALL, 0), OptimizerSettings()).param_groups
    assert (group["lr"], group["betas"], group["weight_decay"], group["eps"]) == (5e-4, (0.9, 0.95), 0.01, 1e-6)
