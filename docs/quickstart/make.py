"""Make ``parcels.csv`` and ``later.csv``: invented parcels, and whether they came late.

The first holds 900 parcels of last month. The second holds 2,000 parcels of this month, when a new carrier has taken
over two fifths of the work: what the first month taught is no longer the whole truth.
"""

from __future__ import annotations

import csv
import math
import random
from pathlib import Path

COLUMNS = ("distance_km", "weight_kg", "carrier", "depot", "day", "late")
CARRIERS = ("barge", "cart", "post")
DEPOTS = ("Antwerp", "Bruges", "Ghent", "Leuven", "Ostend")
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat")


def parcel(rng: random.Random, carriers: tuple[str, ...]) -> dict[str, str]:
    """One parcel: far, heavy and on a Friday is late; the new carrier is late where the way is short."""
    distance, weight = rng.uniform(2, 160), rng.lognormvariate(1, 0.7)
    carrier, depot, day = rng.choice(carriers), rng.choice(DEPOTS), rng.choice(DAYS)
    if carrier == "swift":
        delay = (70 - distance) / 8
    else:
        delay = (distance - 95) / 12 + (weight - 3) / 3 + {"barge": 1.5, "cart": 0.0, "post": -1.5}[carrier]
        delay += 1.5 * (day in ("Fri", "Sat"))
    return {
        "distance_km": f"{distance:.1f}",
        "weight_kg": "" if rng.random() < 0.04 else f"{weight:.2f}",
        "carrier": carrier,
        "depot": depot,
        "day": day,
        "late": "yes" if rng.random() < 1 / (1 + math.exp(-2 * delay)) else "no",
    }


def write(path: Path, rows: list[dict[str, str]]) -> None:
    """Write rows as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main(folder: Path) -> None:
    """Write both files. The first has what real files have: typed-in labels, and rows that were sent twice."""
    rng = random.Random(0)
    first = [parcel(rng, CARRIERS) for _ in range(890)]
    for row in rng.sample(first, 25):
        row["late"] = rng.choice((f" {row['late']}", row["late"].title(), f"{row['late']}."))
    write(folder / "parcels.csv", first + rng.sample(first, 10))
    new = (*CARRIERS, "swift", "swift")
    write(folder / "later.csv", [parcel(rng, new) for _ in range(2000)])


if __name__ == "__main__":
    main(Path(__file__).resolve().parent)
