"""Folders of checkpoints: what is found in them, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from _checkpoints import Checkpoints
from tidemill.checkpoints import EMBEDDED, open_checkpoint
from tidemill.checkpoints.backbones import load_backbone
from tidemill.checkpoints.tokens import Tokens, most_tokens, tokeniser
from tidemill.errors import ConfigError, NotFoundError, TidemillError, TrainingError


def copied(checkpoints: Checkpoints, family: str, to: Path, **config: Any) -> Path:
    folder = shutil.copytree(checkpoints(family), to / family)
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(told | config))
    return folder


def refusal(folder: Path) -> TidemillError:
    with pytest.raises(TidemillError) as caught:
        load_backbone(open_checkpoint(f"folder:{folder}"))
    assert caught.value.mend
    return caught.value


def test_what_a_checkpoint_says_of_itself(checkpoints: Checkpoints) -> None:
    found = open_checkpoint(checkpoints.reference("bert"))
    assert (found.kind, found.family, found.licence) == ("text", "bert", "mit")
    model = load_backbone(found).model
    assert 0 <= found.parameters - sum(p.numel() for p in model.parameters()) < 2000  # the pooler is left out
    assert found.size == (found.folder / "model.safetensors").stat().st_size
    named = f"{checkpoints.reference('bert')}#{found.digest}"
    assert open_checkpoint(named) == found
    with pytest.raises(TrainingError, match="was changed"):
        open_checkpoint(f"{checkpoints.reference('bert')}#0123456789abcdef")


def test_weights_in_several_files(checkpoints: Checkpoints, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    folder = copied(checkpoints, "bert", tmp_path)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    index = {}
    for part, chosen in (("a.safetensors", names[::2]), ("b.safetensors", names[1::2])):
        save_file({name: tensors[name] for name in chosen}, folder / part, metadata={"format": "pt"})
        index |= dict.fromkeys(chosen, part)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    whole = load_backbone(open_checkpoint(checkpoints.reference("bert")))
    parts = load_backbone(open_checkpoint(f"folder:{folder}"))
    tokens = torch.tensor([[5, 9, 11, 0]], dtype=torch.int32)
    assert torch.equal(whole(tokens), parts(tokens))
    (folder / "b.safetensors").unlink()
    assert "b.safetensors" in str(refusal(folder))


def test_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such folder"):
        open_checkpoint(f"folder:{tmp_path / 'nothing'}")
    assert "no config.json" in str(refusal(tmp_path))
    for reference in ("bert", "hub:owner/name", "package:other"):
        with pytest.raises(TrainingError, match="names no checkpoint"):
            open_checkpoint(reference)


def test_pickled_weights(checkpoints: Checkpoints, tmp_path: Path) -> None:
    folder = copied(checkpoints, "bert", tmp_path)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    assert "pytorch_model.bin, which may run code" in str(refusal(folder))


def test_truncated_weights(checkpoints: Checkpoints, tmp_path: Path) -> None:
    folder = copied(checkpoints, "bert", tmp_path)
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    for length in (0, 4, 400, len(whole) // 2, len(whole) - 1):
        weights.write_bytes(whole[:length])
        assert "truncated or damaged" in str(refusal(folder))


def test_other_architectures(checkpoints: Checkpoints, tmp_path: Path) -> None:
    assert "'gpt2', which cannot be started from" in str(
        refusal(copied(checkpoints, "bert", tmp_path, model_type="gpt2"))
    )
    other = copied(checkpoints, "vit", tmp_path, model_type="bert")
    assert "missing or of another shape" in str(refusal(other)) or "do not fit" in str(refusal(other))
    narrow = copied(checkpoints, "roberta", tmp_path, intermediate_size=24)
    assert "missing or of another shape" in str(refusal(narrow)) or "do not fit" in str(refusal(narrow))


def test_code_that_it_brings_is_never_run(checkpoints: Checkpoints, tmp_path: Path) -> None:
    folder = copied(checkpoints, "bert", tmp_path, auto_map={"AutoModel": "evil.Model"})
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert "brings code of its own" in str(refusal(folder))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("damaged", ["[]", "{", "\x00", '{"model_type": 7}'])
def test_damaged_json(checkpoints: Checkpoints, tmp_path: Path, damaged: str) -> None:
    folder = copied(checkpoints, "bert", tmp_path)
    (folder / "config.json").write_text(damaged)
    refusal(folder)


def test_damaged_tokeniser(checkpoints: Checkpoints, tmp_path: Path) -> None:
    folder = copied(checkpoints, "bert", tmp_path)
    (folder / "tokenizer.json").write_text('{"model": {"type": "WordPiece"}}')
    with pytest.raises(TrainingError, match="tokeniser cannot be read"):
        tokeniser(open_checkpoint(f"folder:{folder}"), None)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(TrainingError, match="no tokeniser"):
        tokeniser(open_checkpoint(f"folder:{folder}"), None)
    with pytest.raises(ValueError, match="tokeniser"):
        Tokens({"model": 3}, 8)


def test_tokens(checkpoints: Checkpoints) -> None:
    opened = open_checkpoint(checkpoints.reference("bert"))
    tokens = tokeniser(opened, None)
    assert tokens.length == most_tokens(opened) == 40
    short = tokeniser(opened, 6)
    ids = short(["the parcel was late today again", "", "parcel"])
    assert ids.shape == (3, 6) and ids.dtype == np.int32
    assert ids[0].all() and (ids[1] > 0).sum() == 2 and (ids[2] > 0).sum() == 3  # with their marks
    assert np.array_equal(short(["parcel"]), ids[2:])
    assert most_tokens(open_checkpoint(checkpoints.reference("roberta"))) == 38


def test_the_encoder_of_the_package() -> None:
    found = open_checkpoint(EMBEDDED)
    assert (found.family, found.licence, found.parameters) == ("bert", "apache-2.0", 22_713_728)
    assert found.digest == "53aa51172d142c89"


def test_rules() -> None:
    from tidemill.checkpoints.hub import Rules

    Rules(("mit", "unknown"), 1e6).check("x", None, 1e6)
    with pytest.raises(ConfigError, match=r"licence gpl-3\.0, and transfer\.licences allows mit"):
        Rules(("mit",), 1e6).check("x", "gpl-3.0", 1)
    with pytest.raises(ConfigError, match="says no licence"):
        Rules(("mit",), 1e6).check("x", None, 1)
    with pytest.raises(ConfigError, match=r"take 2 MB, and transfer\.max_mb is 1"):
        Rules(None, 1e6).check("x", "mit", 2e6)
