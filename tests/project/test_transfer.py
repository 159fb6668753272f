"""Checkpoints in a project: what is offered, what is said when it is not, and models that serve without them."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tidemill
from _checkpoints import WORDS, Checkpoints
from tidemill.checkpoints import open_checkpoint
from tidemill.checkpoints.backbones import load_backbone
from tidemill.config import Config
from tidemill.data.schema import Field, Signature
from tidemill.errors import ConfigError, ConflictError, InputError, NotFoundError, NotReadyError, TrainingError
from tidemill.features import encoder
from tidemill.runtime import load
from tidemill.tasks._transfer import english

ENGLISH = ["The parcel was late, and I have not heard of it since.", "Thanks for the card that came with it!"]
TEXTS = Signature(
    inputs=(Field(name="text", type="text"),), target="label", kind="classification", labels=("early", "late")
)
QUICK: dict[str, Any] = {"max_trials": 0, "max_epochs": 1, "seed": 0}


def messages(path: Path, rows: int = 120) -> Path:
    rng = np.random.default_rng(0)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for row in range(rows):
            label = ("early", "late")[row % 2]
            words = [*rng.choice(WORDS, 5), label, f"x{rng.integers(1000)}"]
            writer.writerow([" ".join(rng.permutation(words)), label])
    return path


def made(tmp_path: Path, checkpoints: dict[str, str], include: Sequence[str] = (), **more: Any) -> tidemill.Project:
    transfer = {"checkpoints": checkpoints, "embedded": "never", **more}
    return tidemill.init(
        tmp_path / "p",
        data=messages(tmp_path / "messages.csv"),
        target="label",
        task="text-classification",
        transfer=transfer,
        recipes={"include": list(include)},
    )


def choosing(project: tidemill.Project, include: Sequence[str] | None) -> Config:
    """The configuration with other recipes included; none means all."""
    recipes = project.config.recipes.model_copy(update={"include": include})
    return project.config.model_copy(update={"recipes": recipes})


def names(project: tidemill.Project, texts: Sequence[str] = ()) -> list[str]:
    said: list[str] = []
    found = [r.name for r in project.recipes(TEXTS, texts, said.append)]
    return [*found, *said]


def test_a_cycle_from_a_checkpoint_and_its_packages(checkpoints: Checkpoints, tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoints("bert"), tmp_path / "bert")
    project = made(tmp_path, {"small": "../bert"}, ["small-frozen", "small-lora", "small-full"])
    done = project.cycle(**QUICK)
    candidates = {c["recipe"]: c for c in done["candidates"]}
    assert set(candidates) >= {"small-frozen", "small-lora", "small-full"}
    assert not [c["failed"] for c in candidates.values() if "failed" in c]
    encoder._backbone.cache_clear()
    shutil.rmtree(folder)  # what serves needs no checkpoint
    for name in ("small-frozen", "small-lora", "small-full"):
        predictor = load(project.store.root / project.model(candidates[name]["model"]).path)
        predictor.warm_up()
        assert predictor.predict([{"text": "the parcel was late"}])[0]["label"] in ("early", "late")
        assert str(tmp_path) not in json.dumps(predictor.manifest.to_json())
    with pytest.raises(NotFoundError, match="no such folder"):
        project.cycle(**QUICK)


def test_features_of_a_frozen_encoder_are_computed_once(checkpoints: Checkpoints, tmp_path: Path) -> None:
    project = made(tmp_path, {"small": str(checkpoints("bert"))}, ["small-frozen"])
    project.cycle(**QUICK)
    cached = [path.parent for path in (project.store.root / "features").glob("*/*/complete.json")]
    encoded = [place for place in cached if '"encoder"' in (place / "complete.json").read_text()]
    assert len(encoded) == 1 and not encoded[0].name.endswith("-refit")


def test_what_is_offered(checkpoints: Checkpoints, tmp_path: Path) -> None:
    project = made(tmp_path, {"small": str(checkpoints("bert"))}, depths=["frozen", "lora"])
    project.config = choosing(project, None)
    found = {r.name: r for r in project.recipes(TEXTS)}
    assert {"small-frozen", "small-lora"} < set(found) and "small-full" not in found
    digest = open_checkpoint(checkpoints.reference("bert")).digest
    assert found["small-lora"].init == {"checkpoint": f"{checkpoints.reference('bert')}#{digest}"}
    assert found["small-lora"].licence == "mit"


def test_the_embedded_encoder_is_for_english(tmp_path: Path) -> None:
    data = messages(tmp_path / "m.csv")
    project = tidemill.init(tmp_path / "p", data=data, target="label", task="text-classification")
    assert "minilm-frozen" in names(project, ENGLISH)
    assert "minilm-frozen" not in names(project, ["Das Paket kam zu spät an.", "包裹很晚才到"])
    assert "minilm-frozen" not in names(project)
    assert english(ENGLISH) and not english([]) and not english(["12 34"])


def test_a_name_may_be_excluded_that_is_not_offered_now(tmp_path: Path) -> None:
    project = tidemill.init(
        tmp_path / "p", data=messages(tmp_path / "m.csv"), target="label", task="text-classification",
        recipes={"exclude": ["minilm-frozen"]},
    )  # fmt: skip
    assert "minilm-frozen" not in names(project) and "minilm-frozen" not in names(project, ENGLISH)


def test_a_hub_that_is_away_costs_only_its_own(
    checkpoints: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    project = made(
        tmp_path,
        {"far": "hub:owner/name@0123abc", "near": str(checkpoints("bert"))},
        ["far-frozen", "near-frozen"],
    )
    *found, said = names(project)
    assert "near-frozen" in found and "far-frozen" not in found
    assert "far-frozen, far-lora, far-full: owner/name@0123abc: the Hugging Face hub does not answer" in said
    assert said in project.plan()["notes"]
    done = project.cycle(**QUICK)
    assert said in done["notes"] and any(c["recipe"] == "near-frozen" and "model" in c for c in done["candidates"])


def test_too_little_memory(checkpoints: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidemill.project.transfer._memory", lambda: 625_375_000)
    project = made(tmp_path, {"small": str(checkpoints("bert"))}, ["small-frozen", "small-full"])
    *found, said = names(project)
    assert "small-frozen" in found and "small-full" not in found
    assert said == "small-full needs about 0.5 GB of memory, and 0.6 GB are free"


@pytest.mark.parametrize(
    ("more", "error", "what"),
    [
        ({"licences": ["apache-2.0"]}, ConfigError, "has the licence mit, and transfer.licences allows apache-2.0"),
        ({"max_mb": 0.01}, ConfigError, "and transfer.max_mb is 0"),
        ({"checkpoints": {"a": "nowhere"}}, NotFoundError, "no such folder"),
    ],
)
def test_what_is_refused(
    checkpoints: Checkpoints, tmp_path: Path, more: dict[str, Any], error: type[Exception], what: str
) -> None:
    project = made(tmp_path, **{"checkpoints": {"small": str(checkpoints("bert"))}, **more})
    with pytest.raises(error, match=what):
        project.recipes(TEXTS)


def test_a_checkpoint_for_other_inputs(checkpoints: Checkpoints, tmp_path: Path) -> None:
    project = made(tmp_path, {"pictures": str(checkpoints("vit"))})
    with pytest.raises(ConfigError, match="reads images, and the inputs are text"):
        project.recipes(TEXTS)


@pytest.mark.parametrize(
    "checkpoint", [{"A b": "x"}, {"a": "hub:owner/name"}, {"a": ""}, ["x"]], ids=["name", "revision", "empty", "list"]
)
def test_faults_in_the_configuration(tmp_path: Path, checkpoint: Any) -> None:
    with pytest.raises(ConfigError, match=r"transfer\.checkpoints"):
        made(tmp_path, checkpoint)


def test_an_encoder_of_its_own_from_texts(checkpoints: Checkpoints, tmp_path: Path) -> None:
    project = made(tmp_path, {"small": str(checkpoints("bert"))}, [])
    with pytest.raises(NotReadyError, match="no data has been prepared"):
        project.pretrain("own", start="small", steps=2)
    project.config = choosing(project, ())
    project.cycle(**QUICK)
    heard: list[dict[str, Any]] = []
    told = project.pretrain("own", start="small", steps=12, rate=5e-3, on_event=heard.append)
    assert told["loss_after"] < told["loss_before"] and heard[-1]["done"] == 12
    project.config = choosing(project, None)
    assert {"own-frozen", "own-lora", "own-full"} < {r.name for r in project.recipes(TEXTS)}
    found = open_checkpoint(f"folder:{told['path']}")
    assert found.family == "bert" and found.licence == "mit"
    assert load_backbone(found).width == 32
    assert json.loads((Path(told["path"]) / "tidemill.json").read_text())["from"] == "small"
    with pytest.raises(ConflictError, match="there is a checkpoint 'own'"):
        project.pretrain("own")
    with pytest.raises(InputError, match="is no name"):
        project.pretrain("../own")


def test_licences_are_asked_for_where_somebody_else_has_one(checkpoints: Checkpoints, tmp_path: Path) -> None:
    project = made(tmp_path, {}, licences=["apache-2.0"])
    project.config = choosing(project, None)
    own = project.store.root / "checkpoints"
    for name, begun in (("fresh", None), ("further", "small")):
        shutil.copytree(checkpoints("bert"), own / name)
        (own / name / "README.md").unlink(missing_ok=True)
        (own / name / "tidemill.json").write_text(json.dumps({"from": begun}))
    found = names(project)
    assert "fresh-frozen" in found and "further-frozen" not in found
    assert "further-frozen, further-lora, further-full" in found[-1]
    assert "says no licence, and transfer.licences allows apache-2.0" in found[-1]


def test_the_licence_of_the_embedded_encoder_is_asked_for(tmp_path: Path) -> None:
    project = made(tmp_path, {}, embedded="auto", licences=["mit"])
    project.config = choosing(project, None)
    found = names(project, ENGLISH)
    assert "minilm-frozen" not in found and "has the licence apache-2.0, and transfer.licences allows mit" in found[-1]
    wanted = project.config.transfer.model_copy(update={"embedded": "always"})
    project.config = project.config.model_copy(update={"transfer": wanted})
    with pytest.raises(ConfigError, match=r"transfer\.embedded: the checkpoint has the licence apache-2\.0"):
        project.recipes(TEXTS, ENGLISH)


def test_what_a_killed_pretraining_left_stops_nothing(checkpoints: Checkpoints, tmp_path: Path) -> None:
    project = made(tmp_path, {})
    project.config = choosing(project, None)
    own = project.store.root / "checkpoints"
    for name in (".own.part", "half"):  # the configuration is written before the weights
        (own / name).mkdir(parents=True)
        shutil.copy(checkpoints("bert") / "config.json", own / name)
    (said,) = [text for text in names(project) if ".part" in text or "half" in text]
    assert said.startswith("half-frozen, half-lora, half-full:") and "there is no model.safetensors" in said


def test_pretraining_from_nothing(tmp_path: Path) -> None:
    from tidemill.learners.pretraining import HiddenPatches, HiddenTokens, pretrain

    rng = np.random.default_rng(0)
    texts = HiddenTokens([" ".join(rng.choice(WORDS, 8)) for _ in range(80)], None, seed=0)
    images = HiddenPatches(rng.integers(0, 256, (40, 14, 14, 1), dtype=np.uint8), None, seed=0)
    for name, subject in (("texts", texts), ("images", images)):
        (tmp_path / name).mkdir()
        told = pretrain(
            subject, tmp_path / name, steps=6, rate=1e-3, fresh=True, seed=0, on_step=lambda step, loss: None
        )
        assert told.after < told.before
        found = open_checkpoint(f"folder:{tmp_path / name}")
        load_backbone(found)
        assert found.kind == name.removesuffix("s")


def test_patches_are_hidden_from_vits_alone(checkpoints: Checkpoints) -> None:
    from tidemill.learners.pretraining import HiddenPatches

    images = np.zeros((4, 16, 16, 3), np.uint8)
    with pytest.raises(TrainingError, match="the checkpoint is a resnet"):
        HiddenPatches(images, open_checkpoint(checkpoints.reference("resnet")), seed=0)
