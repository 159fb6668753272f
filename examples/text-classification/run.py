"""Two projects on texts: requests to a help desk, in two columns, and Chinese reviews, which have no blanks."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import tidemill

SUBJECTS = ("a question", "please help", "urgent", "hello", "one more thing", "for your information")
REQUESTS = {
    "account": ("I forgot my password", "my account is locked", "change my address", "the code never comes"),
    "delivery": ("where is my parcel", "the courier never came", "the box arrived open", "it is late again"),
    "payment": ("I was charged twice", "the invoice is wrong", "refund the order", "the card was declined"),
}
OFTEN = ("and", "then", "also", "today", "still", "please", "really", "yesterday", "again", "we", "you", "it")
REVIEWS = {
    "好评": ("房间很干净", "服务非常热情", "早餐很丰富", "位置方便", "床很舒服", "下次还会来", "性价比高"),
    "差评": ("房间又小又旧", "服务态度很差", "隔音太差", "卫生间有异味", "空调坏了", "不会再来", "价格太贵"),
}
BETWEEN = ("，", "。", "，而且", "，不过", "，总之")


def requests(count: int, seed: int) -> list[dict[str, str]]:
    """Two columns: in one request of three the subject alone tells what it is about. Some are labelled wrongly."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        topic = str(rng.choice(list(REQUESTS)))
        about = str(rng.choice(REQUESTS[topic]))
        subject, body = f"{rng.choice(SUBJECTS)} {filler(rng, 3)}", f"{filler(rng, 6)} {about}"
        if rng.random() < 1 / 3:
            subject, body = about, filler(rng, 8)
        said = rng.choice(list(REQUESTS)) if rng.random() < 0.05 else topic
        rows.append({"subject": subject, "body": body, "topic": str(said)})
    return rows


def filler(rng: np.random.Generator, words: int) -> str:
    """Words that say nothing."""
    return " ".join(rng.choice(OFTEN, words))


def reviews(count: int, seed: int) -> list[dict[str, str]]:
    """Two remarks of one mind and one to the contrary, in any order. Some are labelled wrongly."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        opinion, other = (str(name) for name in rng.permutation(list(REVIEWS)))
        remarks = [*rng.choice(REVIEWS[opinion], 2, replace=False), rng.choice(REVIEWS[other])]
        said = other if rng.random() < 0.05 else opinion
        rows.append({"review": str(rng.choice(BETWEEN)).join(rng.permutation(remarks)), "opinion": said})
    return rows


def main() -> None:
    asked = {"subject": "urgent", "body": "we still wait and the courier never came"}
    loop("requests", requests(800, 0), "topic", asked)
    loop("reviews", reviews(800, 1), "opinion", {"review": "床很舒服，早餐也丰富，就是隔音差"})


def loop(name: str, rows: Sequence[dict[str, str]], target: str, question: dict[str, Any]) -> None:
    """From a table to an answer."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        project = tidemill.init(Path(folder) / name, data=path, target=target, recipes={"include": ["linear"]})
        cycle = project.cycle()
        print(f"{name}: {project.config.task} from", ", ".join(field.name for field in project.signature.inputs))
        for candidate in cycle["candidates"]:
            print(f"  {candidate['recipe']:12} {candidate['validation']:.1%} right on validation")
        print(" ", cycle["decision"]["reason"])
        report = project.report()["reports"]["reference"]
        print(f"  log-loss {report['metrics']['log_loss']['value']:.3f},", end=" ")
        print(f"one answer in {report['latency']['single']['p50_ms']:.1f} ms")
        answer = project.predict(question)[0]
        print(" ", question, "→", answer["label"], f"({answer['score']:.0%})")


if __name__ == "__main__":
    main()
