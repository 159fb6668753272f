"""Play an application and its users: ask the service about 2,000 parcels, and say afterwards what really happened.

python users.py http://127.0.0.1:8321 later.csv
"""

from __future__ import annotations

import csv
import json
import random
import sys
import urllib.request
from typing import Any

AT_ONCE = 100


def post(url: str, body: dict[str, Any]) -> Any:
    """Send JSON, get JSON."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def read(path: str) -> list[tuple[dict[str, Any], str]]:
    """What the application knows of each parcel beforehand, and what comes out in the end."""
    found = []
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            truth = row.pop("late")
            inputs: dict[str, Any] = {name: value or None for name, value in row.items()}
            for name in ("distance_km", "weight_kg"):
                inputs[name] = float(row[name]) if row[name] else None
            found.append((inputs, truth))
    return found


def say(answer: dict[str, Any], truth: str, rng: random.Random) -> dict[str, Any] | None:
    """What a user says of one answer, if anything."""
    right = answer["label"] == truth
    # An answer drawn for the audit is asked about, right or wrong. Of the others, people mostly report mistakes.
    if not answer["audit"] and rng.random() > (0.3 if right else 0.8):
        return None
    said = {"kind": "confirmation"} if right else {"kind": "correction", "value": truth}
    return {"prediction": answer["id"], "author": "dispatch", "asked": answer["audit"], **said}


def main(url: str, path: str) -> None:
    """Send everything, and print what came of it."""
    rng = random.Random(0)
    parcels = read(path)
    asked = right = stated = 0
    for start in range(0, len(parcels), AT_ONCE):
        part = parcels[start : start + AT_ONCE]
        answers = post(f"{url}/v1/predict", {"inputs": [inputs for inputs, _ in part]})["predictions"]
        pairs = list(zip(answers, [truth for _, truth in part], strict=True))
        said = [statement for answer, truth in pairs if (statement := say(answer, truth, rng))]
        post(f"{url}/v1/feedback", {"feedback": said})
        right += sum(answer["label"] == truth for answer, truth in pairs)
        asked += sum(answer["audit"] for answer in answers)
        stated += len(said)
    print(f"{len(parcels)} answers, {right / len(parcels):.1%} right; {stated} statements, {asked} of them asked for")


if __name__ == "__main__":
    main(*sys.argv[1:3])
