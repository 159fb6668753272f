"""Frozen encoders: the same vectors whatever the batch, and what a package holds instead of them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from _checkpoints import WORDS, Checkpoints
from tidemill.data.arrays import Ragged
from tidemill.errors import ConfigError
from tidemill.features.pipeline import Pipeline


def texts(rows: int, seed: int = 0) -> Ragged:
    rng = np.random.default_rng(seed)
    return Ragged.from_strings([" ".join(rng.choice(WORDS, rng.integers(0, 12))) for _ in range(rows)])


def pipeline(reference: str, column: str = "text", **options: object) -> Pipeline:
    return Pipeline([{"step": "encoder", "columns": [column], "checkpoint": reference, **options}], None)


def test_a_text_has_one_vector_whatever_its_neighbours(checkpoints: Checkpoints) -> None:
    made, column = pipeline(checkpoints.reference("bert")), texts(30)
    made.fit([{"text": column}])
    whole = np.asarray(made.transform({"text": column})["x"])
    assert whole.shape == (30, 32) and made.info()["x"].shape == (32,)
    assert np.allclose(np.square(whole).mean(axis=1), 1, atol=1e-5)
    for row in (0, 7):
        one = made.transform({"text": Ragged.from_strings([column[row]])})["x"]
        assert np.allclose(one, whole[row], atol=1e-5)
    again = Pipeline.from_json(json.loads(json.dumps(made.to_json())))
    assert np.array_equal(again.transform({"text": column})["x"], whole)
    assert not made.learns


def test_a_package_holds_the_tokeniser_and_no_path(checkpoints: Checkpoints) -> None:
    made, column = pipeline(checkpoints.reference("bert"), max_length=16), texts(5)
    made.fit([{"text": column}])
    packed = made.packed()
    assert packed is not None
    told = json.dumps(packed.to_json())
    assert str(checkpoints.root) not in told
    again = Pipeline.from_json(json.loads(told))
    assert again.info()["tokens"].shape == (16,)
    assert np.array_equal(again.transform({"text": column})["tokens"], packed.transform({"text": column})["tokens"])


@pytest.mark.parametrize("family", ["vit", "convnext", "resnet"])
@pytest.mark.parametrize("channels", [1, 3])
def test_images(checkpoints: Checkpoints, family: str, channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 20, 24, channels), dtype=np.uint8)
    made = pipeline(checkpoints.reference(family), "image")
    made.fit([{"image": images}])
    vectors = np.asarray(made.transform({"image": images})["x"])
    assert vectors.shape == (5, made.info()["x"].shape[0]) and np.isfinite(vectors).all()
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3
    packed = made.packed()
    assert packed is not None and packed.info()["image"].shape == (20, 24, channels)


def test_what_it_does_not_read(checkpoints: Checkpoints) -> None:
    with pytest.raises(ConfigError, match="reads texts, and it is given images"):
        pipeline(checkpoints.reference("bert"), "image").fit([{"image": np.zeros((2, 8, 8, 1), np.uint8)}])
    with pytest.raises(ConfigError, match="one column of images"):
        pipeline(checkpoints.reference("vit")).fit([{"text": texts(2)}])
    for option in ({"side": 4}, {"max_length": 2}):
        with pytest.raises(ConfigError, match="Give a number"):
            pipeline(checkpoints.reference("bert"), **option)
