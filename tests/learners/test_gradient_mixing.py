"""Augmentation of batches on the real digits and on texts: what each operation does, and networks that learn."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from _problems import digits, fit, same, table, weights
from scipy import ndimage
from sklearn.datasets import load_digits

from tidemill.errors import TrainingError
from tidemill.learners.gradient.batches import Batch
from tidemill.learners.gradient.mixing import Change, cutmixed, mixed_up, swapped, thinned
from tidemill.learners.gradient.randaugment import KINDS, randaugment


def drawn(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def pictures(rows: int = 64) -> torch.Tensor:
    images = np.repeat(np.repeat((load_digits().images[:rows] * 15).astype(np.uint8), 3, 1), 3, 2)
    return torch.from_numpy(np.stack([images, images // 2, 255 - images], 3))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_operation_without_strength_leaves_images_and_one_of_full_strength_does_not(kind: Any) -> None:
    pixels = pictures().float()
    still, most = kind(pixels, torch.zeros(64)), kind(pixels, torch.ones(64)).clamp(0, 255)
    assert still.shape == most.shape == pixels.shape
    if kind.__name__ not in ("_stretched", "_kept"):  # these have no strength
        assert (still - pixels).abs().max() < 0.01
        assert (most - pixels).abs().mean() > 1
    elif kind.__name__ == "_stretched":
        assert most.amin((1, 2)).max() < 0.01 and most.amax((1, 2)).min() > 254.9


def test_a_turn_is_the_one_that_scipy_makes() -> None:
    image = np.zeros((31, 31), np.float32)
    image[8:23, 14:17] = 200
    image[8:11, 14:22] = 200
    turned = KINDS[1](torch.from_numpy(image)[None, :, :, None], torch.ones(1))[0, :, :, 0].numpy()
    theirs = [ndimage.rotate(image, angle, reshape=False, order=1, mode="nearest") for angle in (30, -30)]
    assert min(np.abs(turned - one).mean() for one in theirs) < 2
    assert np.abs(theirs[0] - theirs[1]).mean() > 10


def test_randaugment_draws_for_each_image_and_repeats_with_its_seed() -> None:
    images = torch.stack([pictures(1)[0]] * 200)
    one, again, other = (randaugment(images, drawn(seed), 0.6) for seed in (1, 1, 2))
    assert one.dtype == torch.uint8 and one.shape == images.shape
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert len({image.numpy().tobytes() for image in one}) > 50
    assert torch.equal(images[0], pictures(1)[0])  # the given ones stay


def test_mixup_mixes_pixels_numbers_and_targets_in_one_share_and_takes_categories_from_either() -> None:
    n = 512
    image = torch.zeros(n, 4, 4, 1, dtype=torch.uint8)
    image[n // 2 :] = 200
    codes = torch.arange(n)[:, None].repeat(1, 8)
    x = torch.arange(n, dtype=torch.float32)[:, None]
    batch = Batch({"image": image, "codes": codes, "x": x}, torch.arange(n), torch.arange(n) / n)
    found = mixed_up(batch, drawn(), 1.0)
    assert found.mixed is not None and 0.5 <= found.mixed.share <= 1
    share, other = found.mixed.share, found.mixed.target
    assert torch.equal(found.mixed.weight, other / n) and torch.equal(found.target, batch.target)
    assert torch.allclose(found.features["x"][:, 0], share * x[:, 0] + (1 - share) * other, atol=1e-3)
    assert torch.equal(found.features["image"][:, 0, 0, 0].float(), (share * (batch.target >= n // 2) * 200
                       + (1 - share) * (other >= n // 2) * 200).round())  # fmt: skip
    own = found.features["codes"] == codes
    assert torch.equal(found.features["codes"], torch.where(own, codes, other[:, None].expand(-1, 8)))
    assert abs(own.float().mean() - share) < 0.05


def test_cutmix_puts_a_box_of_another_image_in_and_says_its_area() -> None:
    n = 64
    image = torch.arange(n, dtype=torch.uint8)[:, None, None, None].repeat(1, 12, 10, 1)
    shares = []
    for seed in range(40):
        found = cutmixed(Batch({"image": image}, torch.arange(n), None), drawn(seed), 1.0)
        assert found.mixed is not None
        kept = (found.features["image"] == image)[found.mixed.target != torch.arange(n)]
        assert abs(kept.float().mean() - found.mixed.share) < 1e-6
        values = torch.where(found.features["image"] == image, image, found.mixed.target[:, None, None, None])
        assert torch.equal(found.features["image"], values.to(torch.uint8))
        shares.append(found.mixed.share)
    assert min(shares) < 0.4 and max(shares) > 0.9


def test_tokens_are_left_out_and_the_others_move_up_in_their_order() -> None:
    tokens = torch.zeros(300, 40, dtype=torch.int32)
    for row in range(300):
        tokens[row, : row % 41] = torch.arange(2, 2 + row % 41)
    thin = thinned(tokens, drawn(), 0.3, special=(2,))
    lengths, before = (thin != 0).sum(1), (tokens != 0).sum(1)
    assert abs(lengths.sum() / before.sum() - 0.7) < 0.03
    assert (lengths[before > 0] > 0).all() and (thin[before > 0, 0] == 2).all()
    for row, length in zip(thin, lengths.tolist(), strict=True):
        assert (row[:length].diff() > 0).all() and not row[length:].any()
    assert ((thinned(tokens, drawn(), 0.89) != 0).sum(1)[before > 0] > 0).all()


def test_tokens_change_places_with_neighbours_alone() -> None:
    tokens = torch.zeros(200, 21, dtype=torch.int32)
    tokens[:, :18] = torch.arange(2, 20)
    turned = swapped(tokens, drawn(), 0.5, special=(2,))
    assert torch.equal(turned.sort(1).values, tokens.sort(1).values)
    assert (turned[:, 0] == 2).all() and not turned[:, 18:].any()
    away = (turned[:, :18] - tokens[:, :18]).abs()
    assert away.max() == 1 and 0.4 < (away[:, 2:16] == 1).float().mean() < 0.6


def test_noise_is_in_deviations_of_each_column() -> None:
    x = torch.zeros(4000, 2)
    change = Change(noise=0.5, deviation=torch.tensor([2.0, 10.0]))
    found = change(Batch({"x": x}, torch.zeros(4000), None), drawn()).features["x"]
    assert torch.allclose(found.std(0), torch.tensor([1.0, 5.0]), rtol=0.05)


@pytest.mark.parametrize("params", [{"randaugment": 0.3}, {"mixup": 0.2}, {"cutmix": 1.0}, {"dropout": 0.3}], ids=str)
def test_networks_learn_the_digits_with_it_and_repeat_to_the_bit(params: dict[str, Any]) -> None:
    problem = digits(500, 900)
    one, again = (fit(problem, params={"epochs": 10, **params}, max_epochs=10) for _ in range(2))
    assert same(weights(one), weights(again))
    scores = one.scores({"image": problem.features["image"][500:]})
    assert (scores.argmax(1) == problem.target[500:]).mean() > 0.85
    losses: list[float] = []
    for more in ({}, params):
        report = lambda _epoch, metrics: losses.append(metrics["training_loss"])  # noqa: E731
        fit(problem, params={"epochs": 1, **more}, max_epochs=1, report=report)
    assert losses[0] != losses[1]
    assert one.export().onnx is not None


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_tables_are_learned_with_noise_and_mixup(kind: str) -> None:
    problem = table(kind)
    model = fit(problem, "mlp", params={"epochs": 20, "noise": 0.1, "mixup": 0.2, "dropout": 0.1})
    held = {name: array[problem.train :] for name, array in problem.features.items()}
    scores, target = model.scores(held), problem.target[problem.train :]
    if kind == "classification":
        assert (scores.argmax(1) == target).mean() > 0.92
    else:
        assert ((scores[:, 0] - target) ** 2).mean() < 0.8 * target.var()


def test_a_killed_training_with_augmentation_goes_on_to_the_same_bits(tmp_path: Any) -> None:
    problem = digits(200, 260)
    params = {"epochs": 3, "randaugment": 0.5, "mixup": 0.2, "checkpoint_seconds": 0.0}
    whole = weights(fit(problem, params=params, max_epochs=3))

    def stop(epoch: int, _metrics: dict[str, float]) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(problem, params=params, max_epochs=3, workdir=tmp_path, report=stop)
    assert same(whole, weights(fit(problem, params=params, max_epochs=3, workdir=tmp_path)))


@pytest.mark.parametrize(("name", "value"), [("randaugment", 0.5), ("cutmix", 1.0), ("token_swap", 0.1)])
def test_a_setting_for_other_features_is_refused(name: str, value: float) -> None:
    with pytest.raises(TrainingError, match=f"{name} is for"):
        fit(table("classification"), "mlp", params={"epochs": 1, name: value})
    with pytest.raises(TrainingError, match="noise is for x"):
        fit(digits(100), params={"epochs": 1, "noise": 0.1})


def test_a_part_of_a_batch_holds_its_rows_of_every_feature() -> None:
    offsets = torch.tensor([0, 2, 2, 5])
    features = {
        "x": torch.arange(8.0).view(4, 2),
        "ngrams": torch.arange(9),
        "ngrams_values": torch.arange(9.0),
        "ngrams_offsets": offsets,
    }
    batch = Batch(features, torch.arange(4), torch.tensor([1.0, 2.0, 3.0, 4.0]))
    middle, last = batch.part(1, 3), batch.part(2, 4)
    assert middle.features["ngrams"].tolist() == [2, 3, 4] and middle.features["ngrams_offsets"].tolist() == [0, 0]
    assert last.features["ngrams"].tolist() == [2, 3, 4, 5, 6, 7, 8] and last.features["ngrams_offsets"].tolist() == [
        0,
        3,
    ]
    assert middle.features["x"].tolist() == [[2.0, 3.0], [4.0, 5.0]] and middle.target.tolist() == [1, 2]
    assert (batch.total(), middle.total(), dataclasses.replace(batch, weight=None).total()) == (10.0, 5.0, 4.0)
