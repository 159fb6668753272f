"""Which offer to make to whom: learned from the log of another policy, and judged without making any."""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

import numpy as np

import tidemill

OFFERS = ("none", "coupon", "call")


def chance(age: int, visits: int, offer: str) -> float:
    """How likely somebody buys: the young like coupons, the old are called, and who comes often needs nothing."""
    if offer == "none":
        return 0.1 + 0.06 * min(visits, 8)
    return (0.55 if age < 40 else 0.15) if offer == "coupon" else (0.1 if age < 40 else 0.5)


def write_log(path: Path, rows: int = 4000) -> None:
    """A log of a shop that mostly sent coupons: what was offered, how likely that was, and whether it sold."""
    rng = np.random.default_rng(0)
    usual = np.array([0.2, 0.6, 0.2])
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["age", "visits", "action", "propensity", "reward"])
        for _ in range(rows):
            age, visits = int(rng.integers(18, 80)), int(rng.poisson(2))
            offer = int(rng.choice(3, p=usual))
            sold = int(rng.random() < chance(age, visits, OFFERS[offer]))
            writer.writerow([age, visits, OFFERS[offer], usual[offer], sold])


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_log(folder / "log.csv")
        project = tidemill.init(
            folder / "project",
            data=folder / "log.csv",
            target="reward",
            recipes={"include": ["means", "linear"]},
        )
        cycle = project.cycle()
        print(cycle["decision"]["reason"])
        report = project.report()["reports"]["reference"]
        for estimator, found in report["off_policy"].items():
            print(f"{estimator:10} {found['value']:.3f}  ({found['low']:.3f} to {found['high']:.3f})")
        rows, worth = report["counts"]["rows"], report["support"]["effective"]
        print(f"the {rows} logged choices are worth {worth:.0f} of its own")
        for age, visits in ((25, 1), (70, 1), (70, 9)):
            answer = project.predict({"age": age, "visits": visits})[0]
            likely = ", ".join(f"{offer} {share:.0%}" for offer, share in answer["propensities"].items())
            print(f"{age} years, {visits} visits: {answer['action']:7} of {likely}")


if __name__ == "__main__":
    main()
