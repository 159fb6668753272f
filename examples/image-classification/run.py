"""Handwritten digits: a model from 150 labels, then a better one from the answers to the questions it asks."""

from __future__ import annotations

import base64
import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

import tidemill


def main() -> None:
    digits = load_digits()
    images = (digits.images * 255 / 16).round().astype(np.uint8)  # pixels from 0 to 255, as all images have
    truth = {image.tobytes(): str(digit) for image, digit in zip(images, digits.target, strict=True)}
    order = np.random.default_rng(0).permutation(len(images))
    test, labelled, rest = np.split(order, [500, 600])
    given = digits.target.astype(str)
    given[rest] = ""  # nobody has looked at these yet
    train = np.concatenate([labelled, rest])
    with tempfile.TemporaryDirectory() as name:
        data = Path(name) / "digits.npz"
        np.savez(data, x_train=images[train], y_train=given[train], x_test=images[test], y_test=given[test])
        project = tidemill.init(
            Path(name) / "project", data=data, splits={"validation": 0.4}, recipes={"include": ["cnn"]}
        )
        tell(project.cycle(max_epochs=6))
        questions = project.questions(350, purpose="useful")  # `tidemill label` shows people the same
        print(f"{len(questions)} questions; the first, because {questions[0]['reason']}")
        for question in questions:
            project.answer(question["subject"], truth[pixels(question["inputs"]["image"])], author="ada")
        tell(project.cycle(max_epochs=6))
        scores = project.predict({"image": images[test[0]].tolist()})[0]["scores"]
        best = sorted(scores, key=lambda label: -scores[label])[:3]
        print(f"a {digits.target[test[0]]}:", ", ".join(f"{label} {scores[label]:.1%}" for label in best))


def pixels(url: str) -> bytes:
    """The pixels of a question's image, a PNG in a data URL."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))).tobytes()


def tell(cycle: dict[str, Any]) -> None:
    right = ", ".join(f"{c['recipe']} {c['validation']:.1%}" for c in cycle["candidates"])
    print(f"{cycle['dataset']['counts']['train']} images train; right on validation: {right}")
    print(f"{cycle['decision']['outcome']}: {cycle['decision']['reason']}")


if __name__ == "__main__":
    main()
