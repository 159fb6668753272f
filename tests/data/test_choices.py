"""Logged choices out of files: Open Bandit, Vowpal Wabbit, plain tables; what can be none is left out and named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tidemill.config import make_config
from tidemill.data.offers import offered_text
from tidemill.data.sources import open_source
from tidemill.data.sources.choices import ChoiceSource
from tidemill.errors import InputError, SourceError
from tidemill.tasks import get_task


def opened(path: Path, **bandit: object) -> ChoiceSource:
    config = make_config(task="contextual-bandit", data=[str(path)], target="reward", bandit=bandit)
    source = get_task("contextual-bandit").open(open_source(path), config)
    assert isinstance(source, ChoiceSource)
    return source


def columns_of(source: ChoiceSource) -> dict[str, list[object]]:
    (batch,) = source.batches()
    return {n: c.tolist() if isinstance(c, np.ndarray) else c.to_pylist() for n, c in batch.columns.items()}


def faults_of(source: ChoiceSource) -> dict[str, str]:
    (batch,) = source.batches()
    return {fault.what: fault.origin for fault in batch.faults}


def test_open_bandit_is_read_as_it_comes(data_dir: Path) -> None:
    """Ten thousand choices of 34 items at three positions, drawn blindly."""
    source = opened(data_dir / "open-bandit-men" / "random" / "men.csv")
    summary = source.summary()
    assert summary.rows == 10_000
    assert len(summary.column("action").values) == 34
    names = [column.name for column in summary.columns]
    assert {"action", "propensity", "event", "click", "position", "user_feature_0"} <= {*names}
    assert not {"item_id", "propensity_score", "", "column_1"} & {*names}
    assert float(summary.column("propensity").examples[0]) == pytest.approx(1 / 34)


VW = """shared |User user=Tom time=morning age:30
|Action article=sports
0:-1.0:0.7 |Action article=music price:2.5

shared |User user=Anna time=evening
0:0.0:0.2 |Action article=sports
|Action article=music

shared |User user=Eve
0:0.0:0.0 |Action article=sports
|Action article=music

|Action article=sports
|Action article=music
"""


def test_text_of_vowpal_wabbit(tmp_path: Path) -> None:
    """Contexts, offers with features, costs as rewards; what cannot be is left out with its line."""
    path = tmp_path / "log.vw"
    path.write_text(VW, encoding="utf-8")
    source = opened(path)
    found = columns_of(source)
    assert found["action"] == ["music", "sports"]
    assert found["reward"] == [1.0, -0.0] and found["propensity"] == [0.7, 0.2]
    assert found["user"] == ["Tom", "Anna"] and found["age"] == [30.0, None]
    assert found["action.price"] == [2.5, None]
    assert [action["name"] for action in json.loads(str(found["actions"][1]))] == ["sports", "music"]
    faults = faults_of(source)
    zero = "choices with a probability of 0 were left out: what is never chosen was not chosen"
    assert "log.vw, line 9" in faults[zero]
    assert "blocks without exactly one chosen action were left out" in faults


def test_json_of_vowpal_wabbit(tmp_path: Path) -> None:
    """One line a choice; propensities that do not sum to 1 cannot be those of a draw."""
    line = {
        "_label_cost": -1,
        "_label_probability": 0.7,
        "_labelIndex": 1,
        "p": [0.3, 0.7],
        "c": {"User": {"user": "Tom"}, "_multi": [{"Action": {"id": "sports"}}, {"Action": {"id": "music"}}]},
    }
    path = tmp_path / "log.json"
    path.write_text("\n".join(map(json.dumps, [line, {**line, "p": [0.3, 0.3]}, {**line, "_labelIndex": 7}])))
    source = opened(path)
    found = columns_of(source)
    assert found["action"] == ["music"] and found["reward"] == [1.0] and found["user"] == ["Tom"]
    assert {"choices whose propensities do not sum to 1 were left out"} < {*faults_of(source)}


def test_a_plain_table_with_named_columns(tmp_path: Path) -> None:
    """Names that are told, an offer parted by bars, a feature of the action; faults by row."""
    path = tmp_path / "log.csv"
    path.write_text(
        "hour,banner,p,set,price,reward\n"
        "8,red,0.5,red|blue,2,1\n"
        "9,blue,0,red|blue,3,0\n"
        "10,blue,1.5,red|blue,3,0\n"
        "11,,0.5,red|blue,3,0\n"
        "12,green,0.5,red|blue,3,0\n"
        "13,blue,,red|blue,3,0\n"
        "14,blue,0.5,,3,0\n",
        encoding="utf-8",
    )
    source = opened(path, action="banner", propensity="p", offered="set", action_features=["price"])
    found = columns_of(source)
    assert found["action"] == ["red", "blue"] and found["hour"] in ([8, 14], [8.0, 14.0], ["8", "14"])
    assert found["actions"] == ['[{"name":"red"},{"name":"blue"}]', None]
    assert len(found["action.price"]) == 2 and "price" not in found
    faults = faults_of(source)
    assert len(faults) == 5
    assert faults["choices without an action were left out"].endswith("row 4")
    assert faults["choices with a propensity of 0 were left out: what is never chosen was not chosen"].endswith("row 2")


def test_an_action_may_be_called_none(tmp_path: Path) -> None:
    """Which elsewhere spells a missing value."""
    path = tmp_path / "log.csv"
    path.write_text("hour,action,propensity,reward\n8,none,0.5,1\n9,call,0.5,0\n9,NA,0.5,0\n", encoding="utf-8")
    source = opened(path)
    assert columns_of(source)["action"] == ["none", "call", "NA"]
    column = source.summary().column("action")
    assert column is not None and column.values == ("NA", "call", "none") and column.missing == 0


def test_logs_that_lack_what_matters_are_refused(tmp_path: Path) -> None:
    """Without propensities nothing can be learned of other choices; an unknown column is named."""
    path = tmp_path / "log.csv"
    path.write_text("hour,action,reward\n8,red,1\n9,blue,0\n", encoding="utf-8")
    with pytest.raises(SourceError, match="no column says with which probability"):
        opened(path)
    with pytest.raises(SourceError, match="there is no column 'chance'"):
        opened(path, propensity="chance")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "no action is offered"),
        (["a", "a"], "'a' is offered twice"),
        ([{"price": 2}], "is no action"),
        ([{"name": ""}], "has no name"),
        ([{"name": "a", "price": float("nan")}], "is not finite"),
        ([{"name": "a", "price": [1]}], "is no number and no text"),
        ({"a": 1}, "no list"),
        ("[broken", "no JSON"),
        ([str(n) for n in range(1001)], "1001 actions are offered"),
    ],
)
def test_offers_that_can_be_none_are_refused(given: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        offered_text(given)


def test_offers_have_one_form() -> None:
    """Names, objects and JSON say the same."""
    assert offered_text(["a", 2]) == '[{"name":"a"},{"name":"2"}]' == offered_text('["a","2"]')
    assert offered_text(None) is None and offered_text("") is None
