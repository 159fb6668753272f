"""Writes docs/commands/*.md, docs/configuration.md and docs/features.md from the program: ``python docs/generate.py``.

``tests/cli/test_docs.py`` checks that the pages say what the program says.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer

from tidemill.cli.command import Command
from tidemill.cli.program import COMMANDS, GROUPS, build
from tidemill.config import VARIABLES, Config
from tidemill.config.faults import keys_of, range_of, section_of
from tidemill.config.writing import heading, scalar
from tidemill.features import FeatureStep
from tidemill.features.pipeline import step_class, step_names

DOCS = Path(__file__).resolve().parent
EXIT_CODES = """\
| exit code | meaning |
|---|---|
| 0 | done |
| 1 | `gate`: the challenger was refused; `doctor`: something is wrong; any other: a fault of Tidemill, told in a file |
| 2 | an error whose message says what is wrong, where, and how to mend it |
| 130 | stopped by Ctrl-C |
"""


def pages() -> dict[str, str]:
    """Every generated page: its path in ``docs/``, and its text."""
    group: Any = typer.main.get_command(build())
    found = {f"commands/{c.name}.md": page(c.name, c, group.commands[c.name]) for c in COMMANDS}
    for several in GROUPS:
        name, inner = several.NAME, group.commands[several.NAME]
        parts = [page(f"{name} {c.name}", c, inner.commands[c.name], level=2) for c in several.COMMANDS]
        found[f"commands/{name}.md"] = "\n".join([f"# tidemill {name}\n\n{inner.help}\n", *parts])
    found["commands/README.md"] = index()
    found["configuration.md"] = configuration()
    found["features.md"] = features()
    return found


def page(name: str, command: Command, made: Any, *, level: int = 1) -> str:
    """One command: what it does, its arguments and options, and lines to try."""
    context = typer.Context(made, info_name=f"tidemill {name}")
    usage = " ".join(made.get_usage(context).removeprefix("Usage: ").split())
    rows = [row for parameter in made.params if (row := _parameter(parameter)) is not None]
    lines = [f"{'#' * level} tidemill {name}", "", command.help, "", "```", usage, "```", ""]
    if rows:
        lines += ["| argument or option | meaning |", "|---|---|", *rows, ""]
    lines += ["For example:", "", "```sh", *(f"tidemill {line}" for line in command.examples), "```", ""]
    return "\n".join(lines)


def _parameter(parameter: Any) -> str | None:
    name, flag = parameter.metavar or parameter.name.upper(), getattr(parameter, "is_flag", False)
    if parameter.param_type_name == "argument":
        shown = f"`{name}`"
    else:
        shown = ", ".join(f"`{option}`" for option in parameter.opts) + ("" if flag else f" `{_kind(parameter)}`")
    text = str(parameter.help or "").replace("|", "\\|")
    if parameter.required:
        text += " Required."
    elif parameter.default not in (None, False, ()) and not flag:
        text += f" Unless given: {parameter.default}."
    return f"| {shown.replace('|', chr(92) + '|')} | {text} |"


def _kind(parameter: Any) -> str:
    annotation = getattr(getattr(parameter, "type_descriptor", None), "annotation", None)
    choices = [c for a in (annotation, *get_args(annotation)) if get_origin(a) is Literal for c in get_args(a)]
    return str(parameter.metavar or "|".join(choices) or parameter.name.strip("_").upper())


def index() -> str:
    """The list of all commands, under the headings of ``tidemill --help``."""
    lines = ["# Commands", ""]
    lines += [
        "Every command takes `-C DIR` (the project; unless given, the nearest folder upwards with `tidemill.yaml`) and",
        "`--json`, and then prints one JSON document on stdout and nothing else there, also for an error:",
        '`{"error": {"code", "what", "where", "mend"}}`. Progress and notes go to stderr. `NO_COLOR` is honoured.',
        "`tidemill --install-completion` completes commands and options in your shell.",
        "",
    ]
    listed = [(c.panel, c.name, c.help.split("\n")[0]) for c in COMMANDS]
    listed += [(several.PANEL, several.NAME, str(several.build().info.help)) for several in GROUPS]
    panels: dict[str, list[str]] = {}
    for panel, name, summary in listed:
        panels.setdefault(panel, []).append(f"| [{name}]({name}.md) | {summary} |")
    for panel, rows in panels.items():
        lines += [f"## {panel}", "", "| command | what it does |", "|---|---|", *rows, ""]
    return "\n".join([*lines, "## Exit codes", "", EXIT_CODES])


def configuration() -> str:
    """Every key of ``tidemill.yaml`` and every environment variable."""
    keys = keys_of(Config)
    plain = {name: field for name, field in keys.items() if section_of(field.annotation) is None}
    lines = ["# tidemill.yaml", "", CONFIGURATION, _keys(plain)]
    for name, field in keys.items():
        if (section := section_of(field.annotation)) is not None:
            lines += [
                f"## `{name}`",
                "",
                _sentence(heading(section).partition(": ")[2]),
                "",
                _keys(keys_of(section), name),
            ]
    lines += [
        "## Environment",
        "",
        "What the environment says goes before the file. An unknown `TIDEMILL_…` is an error.",
        "",
    ]
    lines += ["| variable | meaning |", "|---|---|", *(f"| `{n}` | {text} |" for n, text in VARIABLES.items())]
    return "\n".join([*lines, "| `NO_COLOR` | no colours |", ""])


CONFIGURATION = """\
A project is a folder with this file. `tidemill init` writes it with a comment for every key; what has its default value
stands as a comment, so that a later default may be better. All faults are reported at once, each with its line and the
nearest right name. Editors that know YAML schemas complete and check it by its first line.

Relative paths are relative to the file's folder. Lengths of time are written `60s`, `5m`, `1h` or `1h30m`.
"""


FEATURES = """\
# Features

A feature step stands between the raw inputs and a learner. It is data: a recipe names the steps that it wants, with
their options.

```python
@tidemill.recipe("forest", learner="sklearn", features=[{"step": "numbers", "raw": True}, {"step": "categories"}])
```

A step takes every input of the types it handles, or those under `columns`. What it has to know (medians, vocabularies,
directions) is learned in one pass over training rows alone, is kept as JSON in the [package](packages.md), and is the
same code in training and in serving. Steps of the same output are laid side by side in their order, but for `image` and
`tokens`, which only one step of a recipe may write.

| output | what it is |
|---|---|
| `x` | float32 `[n, d]`, dense numbers |
| `codes` | int64 `[n, k]`, a code for each category; 0 is rare or unseen |
| `ngrams` | sparse float32 `[n, d]`: weights of the n-grams that occur |
| `tokens` | int32 `[n, length]`, token ids; 0 is padding |
| `image` | uint8 `[n, height, width, channels]` |

`[n]` is the number of rows. Which outputs a learner reads stands under [learners](learners.md); which steps the shipped
recipes use, on the page of each [task](README.md).

| step | takes | gives |
|---|---|---|
"""
STEPS = (
    *("numbers", "categories", "onehot", "dates", "text_vector", "ngrams", "bpe", "pixels", "pixel_vector"),
    *("encoder", "tokenizer"),
)
OUTPUTS = {"numbers": "x", "onehot": "x", "dates": "x", "text_vector": "x", "pixel_vector": "x", "pixels": "image"} | {
    "categories": "codes", "ngrams": "ngrams", "bpe": "tokens", "encoder": "x", "tokenizer": "tokens"
}  # fmt: skip


def features() -> str:
    """Every feature step, with its options, from its docstring."""
    assert sorted(STEPS) == step_names(), "name every step in STEPS"
    steps = {name: step_class(name) for name in STEPS}
    rows = [f"| [`{n}`](#{n}) | {', '.join(step.handles)} | `{OUTPUTS[n]}` |" for n, step in steps.items()]
    return "\n".join([FEATURES + "\n".join(rows), "", *(_step(name, step) for name, step in steps.items())])


def _step(name: str, step: type[FeatureStep]) -> str:
    summary = (inspect.getmodule(step).__doc__ or "").partition(": ")[2].partition("\n\n")[0]  # type: ignore[union-attr]
    text, meanings = _docstring(step)
    for base in step.__mro__[1:]:
        meanings = {**_docstring(base)[1], **meanings} if issubclass(base, FeatureStep) else meanings
    options = [p for p in inspect.signature(step).parameters.values() if p.name != "columns"]
    lines = [f"## {name}", "", _plain(_sentence(" ".join(summary.split()))), "", _plain(text), ""]
    if options:
        lines += ["| option | unless given | meaning |", "|---|---|---|"]
        lines += [f"| `{p.name}` | {_unless(p)} | {_plain(meanings.get(p.name, 'see above'))} |" for p in options]
        lines.append("")
    return "\n".join(lines)


def _unless(option: inspect.Parameter) -> str:
    return "required" if option.default is inspect.Parameter.empty else f"`{_written(option.default)}`"


def _docstring(kind: type) -> tuple[str, dict[str, str]]:
    """What a class says of itself, and of each argument."""
    text, _, rest = (inspect.getdoc(kind) or "").partition("\nArgs:\n")
    found = re.findall(r"^    (\w+): ((?:.|\n(?=     ))*)", rest.partition("\nRaises:")[0], re.MULTILINE)
    return text.partition("\nRaises:")[0].strip(), {name: " ".join(said.split()) for name, said in found}


def _plain(text: str) -> str:
    """A docstring's marks as Markdown's."""
    text = re.sub(r":class:`~?([\w.]*\.)?(\w+)`", lambda m: f"`{m[2].lower()}`", text)
    return text.replace("``", "`").replace("|", "\\|")


def _written(value: Any) -> str:
    """A default as JSON would have it."""
    return scalar(list(value) if isinstance(value, tuple) else value)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _keys(fields: dict[str, Any], name: str = "") -> str:
    lines = ["| key | unless given | range | meaning |", "|---|---|---|---|"]
    for key, field in fields.items():
        default = "required" if field.is_required() else f"`{scalar(field.default)}`"
        limits = range_of(((name, key) if name else (key,)), Config) or _choices(field.annotation)
        lines.append(f"| `{key}` | {default} | {limits} | {field.description} |")
    return "\n".join([*lines, ""])


def _choices(annotation: Any) -> str:
    return ", ".join(f"`{c}`" for c in get_args(annotation)) if get_origin(annotation) is Literal else ""


def main() -> None:
    """Write all pages."""
    (DOCS / "commands").mkdir(exist_ok=True)
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
