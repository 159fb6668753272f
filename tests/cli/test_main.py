"""The program around the commands: help, usage, and how every command ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from tidemill.cli import failures
from tidemill.cli.command import Command, register
from tidemill.cli.program import COMMANDS, GROUPS, build
from tidemill.cli.session import Session
from tidemill.errors import InputError

NAMES = sorted([*(c.name for c in COMMANDS), *(group.NAME for group in GROUPS)])
INNER = [f"{group.NAME} {command.name}" for group in GROUPS for command in group.COMMANDS]
HEAVY = {"torch", "numpy", "pyarrow", "sqlalchemy", "pydantic", "lightgbm", "onnxruntime", "fastapi", "PIL", "yaml"}


def test_all_commands_of_the_house_are_there() -> None:
    house = """init plan cycle status runs models report gate predict serve up feedback label promote rollback trace
        export gc doctor demo data token backup restore rollout forget pareto learn-class pretrain mlflow
        label-studio"""
    assert sorted(house.split()) == NAMES


def test_help_lists_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom tidemill.cli.main import main\n"
        "try:\n    main(['--help'])\n"
        f"finally:\n    print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
    for name in NAMES:
        assert f"│ {name} " in done.stdout


@pytest.mark.parametrize("name", [*NAMES, *INNER])
def test_every_command_explains_itself_and_takes_json(run: Any, name: str) -> None:
    result = run(*name.split(), "--help")
    assert result.code == 0
    assert f"Usage: tidemill {name} " in result.out
    if name not in {group.NAME for group in GROUPS}:
        assert "--json" in result.out and "Examples:" in result.out


def test_version_and_no_arguments(run: Any) -> None:
    assert run("--version").out.startswith("tidemill 0.")
    result = run()
    assert result.code == 0 and "Usage: tidemill" in result.out


def test_an_unknown_command_or_option_suggests_the_nearest(run: Any) -> None:
    result = run("pedict")
    assert (result.code, result.out) == (2, "")
    assert "Did you mean 'predict'?" in result.err
    result = run("cycle", "--max-trails", "3", "--json")
    assert result.code == 2
    assert result.json["error"]["code"] == "usage" and "--max-trials" in result.json["error"]["what"]
    assert run("plan", "--max-epochs", "0", "--json").json["error"]["where"] == "tidemill plan"


def test_typer_runs_it_too() -> None:
    result = CliRunner().invoke(build(), ["feedback", "--help"])
    assert result.exit_code == 0 and "import" in result.output


def test_completion_knows_commands_and_options(shell: Any) -> None:
    found = shell(_TIDEMILL_COMPLETE="complete_bash", COMP_WORDS="tidemill pr", COMP_CWORD="1").out.split()
    assert sorted(found) == ["predict", "pretrain", "promote"]
    found = shell(_TIDEMILL_COMPLETE="complete_bash", COMP_WORDS="tidemill cycle --max", COMP_CWORD="2").out.split()
    assert found == ["--max-trials", "--max-epochs"]


def test_outside_a_project_it_says_how_to_make_one(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("status")
    assert (result.code, result.out) == (2, "")
    assert "not found error" in result.err and "tidemill init DIR" in result.err
    error = run("--json", "status", "-C", tmp_path / "nowhere").json["error"]
    assert error["code"] == "not_found" and error["where"].endswith("nowhere")
    monkeypatch.setenv("TIDEMILL_PROJECT", str(tmp_path / "elsewhere"))
    assert run("status", "--json").json["error"]["where"].endswith("elsewhere")


def test_a_faulty_configuration_is_told_whole(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tidemill.yaml").write_text("tsk: x\ndata: a.csv\ntarget: y\ngate: {alpha: 7}\n", encoding="utf-8")
    result = run("status")
    assert result.code == 2
    assert "did you mean task?" in result.err and "gate.alpha must be more than 0" in result.err
    assert "Traceback" not in result.err


class Harness:
    """A program with one more command, which does what a test wants."""

    def __init__(self, action: Any) -> None:
        def act(session: Session) -> None:
            """Do what the test wants."""
            action(session)

        self.app = typer.Typer()
        register(self.app, Command(run=act, panel="Test", stopped="stopped; go on with `act`"))
        self.app.callback()(lambda: None)

    def __call__(self, *arguments: str) -> int:
        return int(self.app(["act", *arguments], standalone_mode=False) or 0)


def test_json_is_alone_on_stdout_whatever_libraries_print(capfd: pytest.CaptureFixture[str]) -> None:
    def noisy(session: Session) -> None:
        print("a library talks")
        os.write(1, b"native code talks\n")
        subprocess.run([sys.executable, "-c", "print('a child talks')"], check=True)
        session.answer({"a": float("nan"), "b": (1, 2)}, lambda _: None)
        os.write(1, b"and talks\n")

    assert Harness(noisy)("--json") == 0
    out, err = capfd.readouterr()
    assert out == '{\n  "a": null,\n  "b": [\n    1,\n    2\n  ]\n}\n'
    assert all(line in err for line in ("a library talks", "native code talks", "a child talks", "and talks"))
    os.write(1, b"later\n")
    assert capfd.readouterr().out == "later\n"


def test_an_error_is_a_panel_or_a_document(capfd: pytest.CaptureFixture[str]) -> None:
    def fail(session: Session) -> None:
        raise InputError("age is [bold]'x'[/bold]", where="row 3, age", mend="Give a number.")

    program = Harness(fail)
    assert program() == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert "[bold]'x'[/bold]" in err and "row 3, age" in err and "Give a number." in err and "Traceback" not in err
    assert program("--json") == 2
    out, err = capfd.readouterr()
    assert '"code": "input"' in out and err == ""


def test_a_crash_is_one_line_and_a_file(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(session: Session) -> None:
        raise ZeroDivisionError("at\nthe bottom")

    (tmp_path / ".tidemill").mkdir()
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    assert Harness(crash)() == failures.EXIT_CRASH
    out, err = capfd.readouterr()
    (file,) = (tmp_path / ".tidemill").glob("crash-*.txt")
    assert out == "" and err.count("\n") == 1 and "ZeroDivisionError: at" in err and str(file) in err
    assert "raise ZeroDivisionError" in file.read_text(encoding="utf-8")


def test_ctrl_c_says_how_to_go_on(capfd: pytest.CaptureFixture[str]) -> None:
    def stop(session: Session) -> None:
        raise KeyboardInterrupt

    program = Harness(stop)
    assert program() == 130
    assert capfd.readouterr().err == "stopped; go on with `act`\n"
    assert program("--json") == 130
    assert '"code": "stopped"' in capfd.readouterr().out
    cycle = next(c for c in COMMANDS if c.name == "cycle")
    assert cycle.stopped == "stopped; `tidemill cycle` goes on from here"


def test_ctrl_c_while_the_program_is_still_being_imported_is_one_line_too() -> None:
    """It used to be Python's traceback for the first tenth of a second."""
    code = """
import sys
class Pressed:
    def find_spec(self, name, path=None, target=None):
        if name == "typer":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Pressed())
from tidemill.cli.main import main
main(sys.argv[1:])
"""
    for arguments, said in (["status"], ("", "stopped\n")), (["status", "--json"], ('"code": "stopped"', "")):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 130 and said[0] in done.stdout and done.stderr == said[1]


def test_no_color_means_no_escape_codes(shell: Any, tmp_path: Path) -> None:
    coloured = shell("status", cwd=tmp_path, FORCE_COLOR="1").err
    plain = shell("status", cwd=tmp_path, FORCE_COLOR="1", NO_COLOR="1").err
    assert "\x1b[31m" in coloured and "\x1b[31m" not in plain


def test_a_closed_pipe_is_no_crash() -> None:
    program = f"{sys.executable} -c 'from tidemill.cli.main import main; main()' --help"
    done = subprocess.run(f"{program} | head -n 1", shell=True, capture_output=True, text=True, check=True)
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr
