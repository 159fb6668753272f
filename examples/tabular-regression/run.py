"""How many bicycles will be rented in an hour: a number with an interval, judged on the newest weeks."""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

import numpy as np

import tidemill

WEATHER = {"clear": 1.0, "clouds": 0.8, "rain": 0.35}


def write_rentals(path: Path) -> None:
    """Every second hour of ten weeks; the rush hours of working days are the busiest and the least certain."""
    rng = np.random.default_rng(0)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["hour", "weather", "temperature", "rentals"])
        for step in range(0, 70 * 24, 2):
            time = np.datetime64("2024-04-01T00:00") + np.timedelta64(step, "h")
            hour, working = step % 24, (step // 24) % 7 < 5
            weather = str(rng.choice(list(WEATHER), p=[0.5, 0.3, 0.2]))
            temperature = 12 + 5 * np.sin((hour - 9) / 24 * 2 * np.pi) + rng.normal(0, 2)
            busy = 40 + 200 * np.exp(-(((hour - 17) / 3) ** 2)) * working + 80 * np.exp(-(((hour - 14) / 4) ** 2))
            rentals = busy * WEATHER[weather] * (0.6 + temperature / 40) * rng.lognormal(0, 0.15)
            known = "" if rng.random() < 0.03 else f"{temperature:.1f}"
            writer.writerow([time, weather, known, round(rentals)])


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rentals(folder / "rentals.csv")
        project = tidemill.init(
            folder / "project",
            data=folder / "rentals.csv",
            target="rentals",
            splits={"policy": "time", "key": "hour"},  # the newest fifth judges, the tenth before it chooses
            decision={"level": 0.8},  # four of five true values are to lie in the interval
            recipes={"include": ["lightgbm"]},
        )
        cycle = project.cycle()
        for candidate in cycle["candidates"]:
            print(f"{candidate['recipe']:10} R² {candidate['validation']:.3f} on validation")
        print(cycle["decision"]["reason"])
        metrics = project.report()["reports"]["reference"]["metrics"]
        print(f"on the newest weeks: off by {metrics['mae']['value']:.1f} on average")
        print(f"{metrics['interval_coverage']['value']:.0%} of the true values in the interval; 80% was asked for")
        for hour in ("2024-06-12T04:00", "2024-06-12T18:00", "2024-06-15T18:00"):
            answer = project.predict({"hour": hour, "weather": "clear", "temperature": 20})[0]
            low, high = (round(end) for end in answer["interval"])
            print(f"{np.datetime64(hour).item():%a %H:%M}  about {round(answer['value'])}, from {low} to {high}")


if __name__ == "__main__":
    main()
