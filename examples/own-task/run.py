"""Make a project with a task of one's own, run a cycle, and ask for an answer."""

from __future__ import annotations

import tempfile
from pathlib import Path

import tidemill
from tidemill.tasks import get_task
from tidemill.testing.tasks import write_records

TASK = Path(__file__).resolve().parent / "tasks" / "machine_fault.py"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = write_records(Path(folder) / "readings", get_task("machine-fault", [TASK]).sample_data(0))
        project = tidemill.init(Path(folder) / "project", data=data, tasks=[str(TASK)])
        print(project.config.task)
        decision = project.cycle(max_epochs=30)["decision"]
        print(f"{decision['outcome']}: {decision['reason']}")
        print(project.predict({"vibration_x": 0.2, "vibration_y": 0.1, "vibration_z": 1.4})[0]["label"])


if __name__ == "__main__":
    main()
