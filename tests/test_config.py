"""The syntax of tidemill.yaml: all faults at once, each with its line; and what is written reads back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.config import (
    SCHEMA_PATH,
    Config,
    config_text,
    find_project,
    json_schema,
    load_config,
    make_config,
    parse_duration,
    read_environment,
    write_config,
)
from tidemill.config.faults import keys_of, section_of
from tidemill.errors import ConfigError, InputError, NotFoundError

GOOD = "task: image-classification\ntarget: label\ndata:\n  - id: sklearn:digits\n"


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)

    def from_text(text: str | bytes, **environ: str) -> Config:
        path = tmp_path / "tidemill.yaml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return load_config(path, environ=environ)

    return from_text


def faults(load: Any, text: str | bytes, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(text, **environ)
    assert caught.value.mend
    return caught.value.what.splitlines()


def test_rates_that_are_not_named_keep_what_they_had(load: Any) -> None:
    rate = load(GOOD + "serve:\n  rate: {predict: 5, feedback: null}\n").serve.rate
    assert rate == {"predict": 5, "feedback": None, "label": 50, "admin": 20}
    (said,) = faults(load, GOOD + "serve:\n  rate: {predcit: 5}\n")
    assert said.startswith("tidemill.yaml:6: serve.rate.predcit must be predict, feedback, label or admin")
    assert said.endswith("did you mean predict?")
    assert "such as {a: 1}" in faults(load, GOOD + "serve:\n  rate: 5\n")[0]
    assert "more than 0" in faults(load, GOOD + "serve:\n  rate: {admin: 0}\n")[0]


def test_the_defaults_are_those_of_the_documentation(load: Any) -> None:
    config = load(GOOD)
    assert config.data == ("sklearn:digits",)
    assert (config.task, config.target, config.labels, config.inputs, config.ignore) == (
        "image-classification", "label", (), None, (),
    )  # fmt: skip
    assert (config.splits.policy, config.splits.validation, config.splits.reference) == ("hash", 0.1, 0.2)
    assert (config.audit.rate, config.audit.min_response) == (0.05, 0.5)
    assert (config.gate.alpha, config.gate.margin, config.gate.goal, config.gate.tests) == (0.05, 0.01, "quality", 10)
    assert (config.cycle.budget, config.cycle.budget_seconds) == (None, None)
    triggers = config.triggers
    assert (triggers.after_labels, triggers.schedule, triggers.drift, triggers.quality) == (100, None, "watch", None)
    assert (config.serve.host, config.serve.port, config.serve.threads) == ("127.0.0.1", 8321, None)
    assert (config.limits.image_megapixels, config.keep.models, config.store) == (50, 10, None)


def test_schedules_and_time_zones_are_checked(load: Any) -> None:
    good = "triggers: {schedule: '30 3 * * MON-FRI', time_zone: Europe/Berlin, after_labels: null, every: 90s}\n"
    triggers = load(GOOD + good).triggers
    assert (triggers.schedule, triggers.time_zone, triggers.after_labels) == ("30 3 * * MON-FRI", "Europe/Berlin", None)
    for cron in ("every day", "61 * * * *", "0 0 31 2 *", "0 0 3 * * *", "@daily"):
        (said,) = faults(load, GOOD + f"triggers: {{schedule: '{cron}'}}\n")
        assert said.startswith("tidemill.yaml:5: triggers.schedule must be five fields as cron writes them"), cron
    (said,) = faults(load, GOOD + "triggers: {time_zone: Europe/Atlantis}\n")
    assert "triggers.time_zone must be a time zone such as UTC" in said
    (said,) = faults(load, GOOD + "triggers:\n  schedule: */5 * * * *\n")
    assert said == "tidemill.yaml:6: is not YAML: a value that begins with * stands in quotes."
    (said,) = faults(load, GOOD + "cycle: {after_labels: 5}\n")
    assert said.endswith("unknown key cycle.after_labels; after_labels belongs under triggers:.")


def test_all_faults_come_at_once_with_line_and_nearest_name(load: Any) -> None:
    text = """\
schema: 2
tsk: image-classification
data:
  - paht: a.csv
  - [b.csv]
  - id: foo
target: label
gate:
  alpha: 3
  alhpa: 0.1
  goal: qualty
  goal: size
  margin: .nan
  tests: true
alpha: 3
cycle: {budget: soon, max_trials: 1.5, seed: -1}
serve: 5
splits: {policy: grup, reference: "x"}
ignore: [label]
store: foo
"""
    found = faults(load, text, TIDEMILL_THREDS="2")
    expected = [
        ("TIDEMILL_THREDS:", "did you mean TIDEMILL_THREADS?"),
        ("tidemill.yaml:1:", "schema must be 1, not 2"),
        ("tidemill.yaml:1:", "task is missing"),
        ("tidemill.yaml:2:", "unknown key tsk; did you mean task?"),
        ("tidemill.yaml:4:", "data[1] must be `path: FILE-OR-FOLDER` or `id: sklearn:NAME`"),
        ("tidemill.yaml:5:", "data[2] must be `path:"),
        ("tidemill.yaml:6:", "data[3] is no id"),
        ("tidemill.yaml:9:", "gate.alpha must be more than 0 and at most 0.5, not 3."),
        ("tidemill.yaml:10:", "unknown key gate.alhpa; did you mean alpha?"),
        ("tidemill.yaml:12:", "gate.goal stands twice, first in line 11."),
        ("tidemill.yaml:13:", "gate.margin must be a finite number, not nan."),
        ("tidemill.yaml:14:", "gate.tests must be a whole number, at least 1, not true."),
        ("tidemill.yaml:15:", "unknown key alpha; alpha belongs under gate:"),
        ("tidemill.yaml:16:", "cycle.budget must be a length of time"),
        ("tidemill.yaml:16:", "cycle.max_trials must be a whole number, at least 0, not 1.5."),
        ("tidemill.yaml:16:", "cycle.seed must be at least 0"),
        ("tidemill.yaml:17:", "serve must be a section of keys, not 5."),
        ("tidemill.yaml:18:", "splits.policy must be hash, group, time or source, not 'grup'; did you mean group?"),
        ("tidemill.yaml:18:", "splits.reference must be a number, more than 0 and less than 1, not 'x'."),
        ("tidemill.yaml:19:", "ignore names the target 'label'."),
        ("tidemill.yaml:20:", "store must be a database URL"),
    ]
    for (place, what), line in zip(expected, found, strict=True):
        assert line.startswith(place) and what in line, line


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("task: t\ndata: [a\n", 3, "is not YAML"),
        ("task: t\ntarget: a: b\n", 2, "mapping values are not allowed"),
        ("task: t\n\ttarget: x\n", 2, "cannot start any token"),
        ("task: t\nlabels: !!python/object:os.system {}\n", 2, "could not determine a constructor"),
        ("task: t\n? [a]\n: b\n", 2, "unhashable"),
        ("task: t\n--- \ntask: u\n", 2, "expected a single document"),
    ],
)
def test_what_is_no_yaml_is_said_with_its_line(load: Any, text: str, line: int, what: str) -> None:
    (found,) = faults(load, text)
    assert found.startswith(f"tidemill.yaml:{line}: ") and what in found


def test_a_file_that_is_no_configuration(load: Any, tmp_path: Path) -> None:
    assert len(faults(load, "")) == 3  # task, data, target
    assert faults(load, "- a\n- b\n") == ["tidemill.yaml:1: must be keys with values, not ['a', 'b']."]
    assert faults(load, "task: t\ntarget: \x01\n") == [
        "tidemill.yaml:2: is not YAML: the control character '\\x01' stands in it."
    ]
    with pytest.raises(ConfigError, match="no such file"):
        load_config(tmp_path / "nothing.yaml", environ={})
    with pytest.raises(ConfigError, match=r"tidemill\.yaml:2: is not UTF-8"):
        load(b"task: t\ntarget: \xff\n")
    with pytest.raises(ConfigError, match="larger than 1 MB"):
        load("# " + "x" * 1_000_001)
    with pytest.raises(ConfigError, match="nested too deeply"):
        load("[" * 5000)
    bomb = "a: &a [x, x]\nb: &b [*a, *a]\n"  # thirty lines more would take all memory
    assert faults(load, bomb) == ["tidemill.yaml:2: is not YAML: write out what the alias *a stands for."]


def test_text_stays_as_it_is_written(load: Any) -> None:
    config = load("task: t\ntarget: 2020-01-01\ndata: a.csv\nlabels: [yes, no, 1, 1.50]\n")
    assert config.labels == ("yes", "no", "1", "1.50")
    assert config.target == "2020-01-01"
    assert load(GOOD + "gate: {alpha: 1e-3}\nlimits: {archive_ratio: 1e2}\n").gate.alpha == 0.001
    assert load(GOOD + "cycle: {budget: 90}\n").cycle.budget_seconds == 90


def test_what_wrong_answers_cost_is_numbers_under_texts(load: Any) -> None:
    config = load(GOOD + "decision:\n  costs: {7: {yes: 3, '8': 0.5}, spam: {ham: 10}}\n")
    assert config.decision.costs == {"7": {"yes": 3.0, "8": 0.5}, "spam": {"ham": 10.0}}
    [fault] = faults(load, GOOD + "decision:\n  costs: {spam: {ham: dear}}\n")
    assert "decision.costs.spam.ham must be a number" in fault and "'dear'" in fault


def test_sections_whose_keys_are_all_comments_have_defaults(load: Any) -> None:
    assert load(GOOD + "gate:\nlabels:\ninputs:\n").gate == Config.model_fields["gate"].default
    assert "splits.seed must be" in faults(load, GOOD + "splits:\n  seed:\n")[0]


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ("splits: {policy: group}", "splits.policy group needs splits.key"),
        ("splits: {validation: 0.6, reference: 0.5}", "leave nothing to train on"),
        ("inputs: [a, b]\nignore: [b]", "'b' stands under inputs and under ignore"),
        ("labels: [a, b, a]", "labels names 'a' twice"),
        ("recipes: {include: [cnn], exclude: [cnn]}", "recipe 'cnn' stands under include and under exclude"),
        ("serve: {port: 70000}", "serve.port must be at least 0 and at most 65535, not 70000"),
        ("serve: {origins: [shop.example/x]}", "must be an origin such as"),
        ("serve: {alpha: 1}", "alpha belongs under gate:"),
        ("gate: {target: x}", "target belongs at the left margin"),
        ("data: []", "stands twice"),
    ],
)
def test_faults_that_keys_have_together(load: Any, more: str, what: str) -> None:
    assert any(what in line for line in faults(load, GOOD + more + "\n"))


def test_data_may_be_written_short_or_long(load: Any) -> None:
    def specs(value: str) -> tuple[str, ...]:
        return load(f"task: t\ntarget: y\ndata: {value}\n").data  # type: ignore[no-any-return]

    assert specs("a.csv") == specs("[a.csv]") == specs("{path: a.csv}") == specs("[{path: a.csv}]") == ("a.csv",)
    assert specs("[{id: 'sklearn:wine'}, b.csv]") == ("sklearn:wine", "b.csv")
    assert specs("{path: 'sklearn:wine'}") == ("./sklearn:wine",)
    sources = make_config(task="t", target="y", data=["sklearn:wine", "sub/a.csv", "/abs.csv"]).sources("/p")
    assert sources == ["sklearn:wine", "/p/sub/a.csv", "/abs.csv"]


def test_the_environment_goes_before_the_file(load: Any) -> None:
    config = load(GOOD + "serve: {threads: 8, port: 1}\n", TIDEMILL_STORE="postgresql://h/n", TIDEMILL_THREADS="2")
    assert (config.store, config.serve.threads, config.serve.port) == ("postgresql://h/n", 2, 1)
    assert read_environment({"TIDEMILL_THREADS": "", "TIDEMILL_TEST_DATA": "/x"}).threads is None
    with pytest.raises(ConfigError) as caught:
        read_environment({"TIDEMILL_STROE": "x", "TIDEMILL_THREADS": "0", "TIDEMILL_STORE": "x"})
    assert len(caught.value.what.splitlines()) == 3
    assert "did you mean TIDEMILL_STORE?" in caught.value.what


def test_make_config_names_keys_without_a_file() -> None:
    with pytest.raises(ConfigError) as caught:
        make_config(task="t", target="y", data="a.csv", gate={"alpha": 0}, taget="z")
    assert caught.value.what.splitlines() == [
        "the configuration: gate.alpha must be more than 0 and at most 0.5, not 0.",
        "the configuration: unknown key taget; did you mean target?",
    ]


def test_a_configuration_is_frozen(load: Any) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(GOOD).gate.alpha = 1


names = st.text(min_size=1, max_size=12).filter(lambda t: t.strip() == t and t.isprintable())


@settings(max_examples=60, deadline=None)
@given(
    target=names,
    labels=st.lists(names, unique=True, max_size=4),
    data=st.lists(st.one_of(names, st.just("sklearn:digits")), min_size=1, max_size=3),
    alpha=st.floats(min_value=1e-9, max_value=0.5),
    budget=st.sampled_from([None, "60s", "1h30m", "90"]),
)
def test_what_is_written_reads_back(
    tmp_path_factory: pytest.TempPathFactory, target: str, labels: list[str], data: list[str], alpha: float, budget: str
) -> None:
    path = tmp_path_factory.mktemp("p") / "tidemill.yaml"
    config = make_config(
        task="t", target=target, labels=labels, data=data, gate={"alpha": alpha}, cycle={"budget": budget}
    )
    write_config(path, config)
    assert load_config(path, environ={}) == config


def test_the_written_file_explains_every_key_and_stays_valid_when_uncommented(load: Any, tmp_path: Path) -> None:
    config = make_config(task="t", target="y", data="a.csv")
    text = config_text(config)
    assert text.splitlines()[0] == f"# yaml-language-server: $schema={SCHEMA_PATH}"
    active = [
        line.replace("# ", "", 1) if line.lstrip().startswith("# ") and ":" in line.split("#")[1].split()[0] else line
        for line in text.splitlines()
        if not line.startswith(("# yaml", "# Every"))
    ]
    headings = [line for line in active if line.split(":")[0] in ("Splits", "Audit", "Gate")]
    assert len(headings) == 3
    plain = "\n".join(line for line in active if not (line and line[0].isupper()))
    assert load(plain) == config
    assert plain.count(": ") >= 40
    write_config(tmp_path / "tidemill.yaml", config)
    assert json.loads((tmp_path / SCHEMA_PATH).read_text(encoding="utf-8")) == json_schema()


def test_the_schema_names_every_key_with_its_purpose_and_forbids_others() -> None:
    schema = json_schema()
    objects = [schema, *schema["$defs"].values()]
    assert len(objects) >= 1 + sum(section_of(field.annotation) is not None for field in keys_of(Config).values()) > 13
    for entry in objects:
        assert entry["additionalProperties"] is False
        assert all(value.get("description") for value in entry["properties"].values())
    assert set(schema["required"]) == {"task", "data", "target"}
    assert schema["properties"]["schema"]["const"] == 1
    assert schema["$defs"]["Gate"]["properties"]["alpha"] | {"title": ""} == {
        "default": 0.05, "exclusiveMinimum": 0, "maximum": 0.5, "type": "number", "title": "",
        "description": "chance of promoting a model that is not better, over the whole life of a test set",
    }  # fmt: skip


@pytest.mark.parametrize("text", ["", "soon", "5x", "-1s", "0", "1h30", "5m1h", "1s1s", "nan", "inf", "1e400"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(InputError, match="not a length of time"):
        parse_duration(text)


def test_durations() -> None:
    assert [parse_duration(t) for t in ("60s", "5m", "1h", "1h 30m".replace(" ", ""), "2d", "0.5m", 7)] == [
        60, 300, 3600, 5400, 172800, 30, 7,
    ]  # fmt: skip


def test_the_project_is_the_nearest_folder_upwards(tmp_path: Path) -> None:
    (tmp_path / "tidemill.yaml").touch()
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert find_project(tmp_path / "a" / "b") == tmp_path
    with pytest.raises(NotFoundError, match="tidemill init"):
        find_project("/")


def test_reading_a_configuration_needs_nothing_heavy() -> None:
    code = (
        "import sys, tidemill.config; print(sorted({'numpy','torch','sqlalchemy','pyarrow','rich'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
