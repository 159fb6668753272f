"""Which insurance claims to look into: a messy table, prices of mistakes, and a model that may pass a claim on."""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import tidemill

COLUMNS = ("customer", "filed", "workshop", "amount", "note", "times", "outcome")
HARMLESS = ("hail on the roof", "a stone hit the windscreen", "the door was scratched", "a marten bit the cable")
DOUBTFUL = ("stolen without any witness", "a total loss, the invoice is gone", "the other driver left and is unknown")
PLACE = ("at home", "on the motorway", "in the car park", "at night", "in front of the station", "near the border")
ROWS = 800
OPENING = ("on the phone:", "in writing:", "with two photographs:", "by the neighbour:", "at the counter:")


def write_claims(path: Path, seed: int, words: dict[bool, tuple[str, ...]]) -> None:
    """A year's claims as a clerk left them; *words* are how outcomes were spelled that year."""
    rng = np.random.default_rng(seed)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for _ in range(ROWS):
            customer, workshop = int(rng.integers(0, ROWS)), int(rng.zipf(1.5)) % 300
            amount = float(rng.lognormal(7, 1))
            doubtful = rng.random() < 0.25
            odds = -5 + 5 * doubtful + 2 * (amount > 2000) + 3 * (workshop % 7 == 3)
            wrong = bool(rng.random() < 1 / (1 + np.exp(-odds)))
            note = f"{rng.choice(OPENING)} {rng.choice(DOUBTFUL if doubtful else HARMLESS)} {rng.choice(PLACE)}"
            day = np.datetime64(f"{path.stem[-4:]}-01-01") + rng.integers(0, 365)
            writer.writerow(
                [
                    f"C{customer}",
                    rng.choice(["?", "2024-02-31", str(day)], p=[0.02, 0.02, 0.96]),
                    f"  workshop {workshop}" if rng.random() < 0.1 else f"workshop {workshop}",
                    rng.choice(["N/A", "who knows", f"{amount:.2f}"], p=[0.03, 0.01, 0.96]),
                    note,
                    rng.integers(1, 4),  # equal claims were counted, not written out
                    rng.choice(words[wrong]),
                ]
            )


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_claims(folder / "claims-2023.csv", 1, {True: ("fraud",), False: ("honest", "honest ")})
        write_claims(
            folder / "claims-2024.csv", 2, {True: ("fraud", "fraud", "Fraud."), False: ("honest", "honest", "Honest.")}
        )
        project = tidemill.init(
            folder / "project",
            data=[folder / "claims-2023.csv", folder / "claims-2024.csv"],
            target="outcome",
            weight="times",
            splits={"policy": "group", "key": "customer"},  # no customer on both sides of the exam
            decision={"costs": {"fraud": {"honest": 5}}, "abstain_cost": 0.4},  # a paid fraud costs five
            recipes={"include": ["lightgbm"]},
        )
        cycle = project.cycle(max_epochs=3)
        show(project, cycle)


def show(project: tidemill.Project, cycle: dict[str, Any]) -> None:
    report = project.report()
    types = {field["name"]: field["type"] for field in report["dataset"]["signature"]["inputs"]}
    print("read as      ", ", ".join(f"{name} ({kind})" for name, kind in types.items()))
    for action in report["dataset"]["report"]["actions"]:
        print(f"{action['count']:>6}        {action['what']}")
    for candidate in cycle["candidates"]:
        print(f"validation    {candidate['recipe']:12} utility {candidate['validation']:.3f}")
    print("decision     ", cycle["decision"]["reason"])
    found = {name: metric["value"] for name, metric in report["reports"]["reference"]["metrics"].items()}
    print(f"answered      {found['answered']:.0%} of the claims, {found['accuracy_answered']:.0%} of them right")
    print(f"a claim costs {found['expected_cost']:.3f}; 0.4 if people looked at each")
    hail, stolen = "in writing: hail on the roof at home", "on the phone: stolen without any witness at night"
    for note, workshop, amount in ((hail, 5, 700), (hail, 3, 2500), (stolen, 5, 700)):
        claim = {"filed": "2024-06-01", "workshop": f"workshop {workshop}", "amount": amount, "note": note}
        answer = project.predict(claim)[0]
        said = f"a person should look (its guess is {answer['guess']})" if answer["label"] is None else answer["label"]
        print(f"fraud {answer['scores']['fraud']:>7.1%} {said}")


if __name__ == "__main__":
    main()
