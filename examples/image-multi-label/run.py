"""Which digits are in a picture of three? Any number of labels an image, each with a threshold of its own."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

import tidemill

SHOWN = "01234"  # five of the ten digits, so that a small network learns them in seconds


def pictures(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 ``[count, 8, 24]``, three places with a digit or nothing in each; and the digits, such as ``0|3``."""
    digits = load_digits(n_class=len(SHOWN))
    images = (digits.images * 255 / 16).round().astype(np.uint8)
    rng = np.random.default_rng(seed)
    found, labels = np.zeros((count, 8, 24), np.uint8), []
    for picture in found:
        drawn = rng.choice(len(images), 3, replace=False)
        filled = [place for place in range(3) if rng.random() < 0.6]
        for place in filled:
            picture[:, 8 * place : 8 * place + 8] = images[drawn[place]]
        labels.append("|".join(sorted({str(digits.target[drawn[place]]) for place in filled})) or "|")  # "|": none
    return found, np.array(labels)


def main() -> None:
    images, labels = pictures(800, 0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / "pictures.npz", images=images, labels=labels)
        project = tidemill.init(folder / "project", data=folder / "pictures.npz", recipes={"include": ["cnn"]})
        cycle = project.cycle(max_epochs=4)
        print(f"{project.config.task}: {', '.join(project.signature.labels)}")
        for candidate in cycle["candidates"]:
            print(f"{candidate['recipe']:12} F1 a picture {candidate['validation']:.3f} on validation")
        print(cycle["decision"]["reason"])
        report = project.report()["reports"]["reference"]
        print(f"all labels of a picture right: {report['metrics']['subset_accuracy']['value']:.1%}")
        for line in report["per_class"]:
            print(f"{line['label']}: {line['support']:.0f} pictures, F1 {line['f1']['value']:.3f}")
        new, truth = pictures(3, 1)
        for image, digits in zip(new, truth, strict=True):
            answer = project.predict({"image": image.tolist()})[0]
            print(digits, "→", "|".join(answer["labels"]), {k: round(v, 2) for k, v in answer["scores"].items()})


if __name__ == "__main__":
    main()
