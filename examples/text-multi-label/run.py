"""What is a message about? Any number of topics, learned from a few labels and the answers to well-chosen questions."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import tidemill

TOPICS = {
    "billing": "invoice fee charge refund price card receipt discount payment subscription currency tax",
    "bug": "crash error freeze blank broken slow glitch exception flicker loop lag corrupt",
    "login": "password account code locked username token captcha session email verification device pin",
    "praise": "thanks great lovely perfect helpful friendly nice wonderful brilliant impressed smooth happy",
}
OTHER = "the my a with and since again still about please yesterday when today after two it your order new"


def messages(count: int, seed: int) -> list[dict[str, Any]]:
    """Messages about none, one, two or three topics, of which whoever labelled them sometimes overlooked one."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        about = sorted(rng.choice(list(TOPICS), rng.choice(4, p=[0.1, 0.5, 0.3, 0.1]), replace=False).tolist())
        words = [rng.choice(TOPICS[topic].split()) for topic in about] + list(rng.choice(OTHER.split(), 7))
        noticed = [topic for topic in about if rng.random() > 0.03]
        found.append({"text": " ".join(rng.permutation(words)), "topics": noticed})
    return found


def main() -> None:
    truth = {message["text"]: message["topics"] for message in messages(800, 0)}
    rows = [{"text": text, "topics": about} for text, about in truth.items()]
    test, labelled, rest = rows[:300], rows[300:400], [{**row, "topics": None} for row in rows[400:]]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "mails").mkdir()
        (folder / "mails" / "test.jsonl").write_text("\n".join(map(json.dumps, test)), encoding="utf-8")
        (folder / "mails" / "train.jsonl").write_text("\n".join(map(json.dumps, labelled + rest)), encoding="utf-8")
        project = tidemill.init(folder / "project", data=folder / "mails", recipes={"include": ["linear"]})
        tell(project, project.cycle())
        questions = project.questions(250, purpose="useful")  # `tidemill label` asks people the same
        print("\nasked:", questions[0]["inputs"]["text"], "\nbecause", questions[0]["reason"], "\n")
        for question in questions:
            project.answer(question["subject"], truth[question["inputs"]["text"]], author="ada")
        tell(project, project.cycle())


def tell(project: tidemill.Project, cycle: dict[str, Any]) -> None:
    print(f"{cycle['dataset']['counts']['train']} train; {cycle['decision']['reason']}")
    metrics = project.report()["reports"]["reference"]["metrics"]
    for name in ("subset_accuracy", "f1_micro", "f1_macro"):
        print(f"  {name:16} {metrics[name]['value']:.3f}")
    answer = project.predict({"text": "the refund and my password and a token"})[0]
    print(answer["labels"], {label: round(score, 2) for label, score in answer["scores"].items()})


if __name__ == "__main__":
    main()
