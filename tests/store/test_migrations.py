"""The tables come from migrations, and a store is brought up to date when it is opened."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from tidemill.errors import ConfigError, ConflictError, ExtraMissingError, NotFoundError, StoreError
from tidemill.records import Cycle, Feedback, Generation, Member, Token, to_json
from tidemill.store import Store, create_store, make_secret, migrations, open_store
from tidemill.store.database import Database
from tidemill.store.tables import facts, kinds, mapping_of, metadata

NewUrl = Callable[[], str | None]
RELEASED = Path(__file__).parents[1] / "fixtures" / "stores"


def differences(store: Store) -> list[Any]:
    """Between the tables as they are and as the records need them."""
    with store.database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, metadata))


def test_the_migrations_make_the_tables_that_the_records_need(store: Store) -> None:
    assert differences(store) == []
    with store.database.reading() as connection:
        tables = set(sa.inspect(connection).get_table_names())
    assert tables == {*metadata.tables, "alembic_version"} and len(tables) > 14


def test_head_is_the_newest_revision() -> None:
    folder = migrations.__file__
    assert ScriptDirectory(str(Path(folder).parent)).get_heads() == [migrations.HEAD]


def test_upgrading_twice_changes_nothing(store: Store) -> None:
    changes = "PRAGMA schema_version" if store.database.is_sqlite else "SELECT max(oid) FROM pg_class"

    def schema() -> int:
        with store.database.reading() as connection:
            return int(connection.exec_driver_sql(changes).scalar_one())

    before = schema()
    migrations.upgrade(store.database)
    assert schema() == before and migrations.revision(store.database) == migrations.HEAD


def test_opening_a_current_store_leaves_alembic_alone(store: Store) -> None:
    code = (
        "import sys, pathlib; from tidemill.store import open_store; from tidemill.records import Cycle\n"
        "with open_store(pathlib.Path(sys.argv[1]), sys.argv[2] or None) as store: assert store.find(Cycle) == []\n"
        "print([name for name in ('alembic', 'torch', 'numpy', 'pyarrow') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(store.root), store.database.url or ""]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("revision", "told"), [("9999", "newer Tidemill"), ("1975ea83b712", "the tables of another program")]
)
def test_a_store_from_the_future_or_of_others_is_refused_and_left_alone(
    tmp_path: Path, new_url: NewUrl, revision: str, told: str
) -> None:
    url = new_url()
    with create_store(tmp_path / "store", url) as store, store.database.transaction() as connection:
        connection.execute(sa.text(f"UPDATE alembic_version SET version_num = '{revision}'"))
    with pytest.raises(StoreError, match=told):
        open_store(tmp_path / "store", url)
    with contextlib.closing(Database(url, tmp_path / "store" / "store.db")) as database:
        assert migrations.revision(database) == revision


def test_an_interrupted_creation_is_finished_by_the_next(
    tmp_path: Path, new_url: NewUrl, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, url = tmp_path / "half", new_url()
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "upgrade", lambda _database: sys.exit("killed"))
        with pytest.raises(SystemExit):
            create_store(root, url)
    with pytest.raises(StoreError, match="interrupted"):
        open_store(root, url)
    secret = (root / "secret").read_bytes()
    with create_store(root, url) as finished:
        assert finished.find(Cycle) == [] and (root / "secret").read_bytes() == secret


def test_a_failed_migration_leaves_no_table(tmp_path: Path, new_url: NewUrl, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest revision fails at its end: neither its tables nor those before it are left."""
    url = new_url()
    folder = tmp_path / "migrations"
    shutil.copytree(Path(migrations.__file__).parent, folder)
    newest = max((folder / "versions").glob("v*.py"))
    newest.write_text(newest.read_text(encoding="utf-8") + "\n    raise OSError('pulled the plug')\n")
    monkeypatch.setattr(migrations, "__file__", str(folder / "__init__.py"))
    with pytest.raises(OSError, match="pulled the plug"):
        create_store(tmp_path / "store", url)
    monkeypatch.undo()
    with create_store(tmp_path / "store", url) as finished:
        assert finished.count(Cycle) == 0


def test_the_store_of_every_released_revision_is_kept_for_these_tests() -> None:
    folder = Path(migrations.__file__).parent / "versions"
    revisions = sorted(path.name[1:5] for path in folder.glob("v*.py"))
    assert revisions[-1] == migrations.HEAD
    assert {path.name for path in RELEASED.glob("0*")} == {
        f"{revision}.{kind}" for revision in revisions for kind in ("json", "sqlite.sql", "postgresql.sql")
    }, "write those of a new revision with tests/fixtures/stores/make.py"


@pytest.mark.parametrize("revision", sorted(path.stem for path in RELEASED.glob("*.json")))
def test_a_store_of_every_released_revision_is_brought_up_to_date(
    on: str, tmp_path: Path, new_url: NewUrl, revision: str
) -> None:
    """What another version of this program wrote, as it left it: nothing of it is lost."""
    root, url = tmp_path / "store", new_url()
    root.mkdir()
    make_secret(root)
    script = (RELEASED / f"{revision}.{on}.sql").read_text(encoding="utf-8")
    if url is None:
        with contextlib.closing(sqlite3.connect(root / "store.db")) as connection:
            connection.executescript(script)
    else:
        with contextlib.closing(Database(url, root)) as database, database.transaction() as connection:
            connection.connection.execute(script)  # type: ignore[attr-defined]
    rows: dict[str, dict[str, Any]] = json.loads((RELEASED / f"{revision}.json").read_text(encoding="utf-8"))
    assert len(rows) >= 14
    with open_store(root, url) as new:
        assert migrations.revision(new.database) == migrations.HEAD and differences(new) == []
        for kind in kinds():
            row = rows.get(mapping_of(kind).table.name)
            found = [to_json(record) for record in new.find(kind)]
            if row is None:
                assert found == [], "a table that came later"
                continue
            plain = {name: json.loads(v) if str(v).startswith(("[", "{")) else v for name, v in row.items()}
            assert [{name: f[name] for name in plain} for f in found] == [plain]
        assert new.find(Token, name="nobody") == []
        new.insert(Generation(id="gen_later", number=2, alpha=0.05))
        assert [g.id for g in new.find(Generation)] == ["gen_kept", "gen_later"], "and numbering goes on"


def test_what_preferred_one_prediction_to_another_speaks_of_the_pair(tmp_path: Path, new_url: NewUrl) -> None:
    root, url = tmp_path / "store", new_url()
    root.mkdir()
    make_secret(root)
    with contextlib.closing(Database(url, root / "store.db")) as database:
        migrations.upgrade(database, "0004")
        with database.transaction() as connection:
            table = sa.Table("feedback", sa.MetaData(), autoload_with=connection)
            shared = {"author": "ann", "asked": False, "superseded_by": None}
            for number, (better, worse) in enumerate(
                [("pred_2", "pred_1"), ("pred_1", "pred_2"), ("pred_3", "pred_1")]
            ):
                row = {"id": f"fb_{number}", "created": float(number), "subject": better, "key": f"k{number}", **shared}
                value = json.dumps({"over": worse})
                connection.execute(table.insert(), {**row, "kind": "preference", "value": value})
            row = {"id": "fb_9", "created": 9.0, "subject": "pred_1", "key": "k9", **shared}
            connection.execute(table.insert(), {**row, "kind": "comment", "value": '"nice"'})
    with open_store(root, url) as store:
        found = [(f.subject, f.value, f.predictions) for f in store.find(Feedback)]
        assert found == [
            ("pair:pred_1:pred_2", {"over": "pred_1"}, ("pred_2", "pred_1")),
            ("pair:pred_1:pred_2", {"over": "pred_2"}, ("pred_1", "pred_2")),
            ("pair:pred_1:pred_3", {"over": "pred_1"}, ("pred_3", "pred_1")),
            ("pred_1", "nice", ()),
        ]
        members = {(m.subject, m.prediction) for m in store.find(Member)}
        assert members == {(f"pair:pred_1:pred_{n}", f"pred_{one}") for n in (2, 3) for one in (1, n)}


def test_two_processes_bring_a_store_up_to_date_at_once(tmp_path: Path, new_url: NewUrl) -> None:
    root, url = tmp_path / "store", new_url()
    root.mkdir()
    make_secret(root)
    with contextlib.closing(Database(url, root / "store.db")) as database:
        migrations.upgrade(database, "0001")
    code = (
        "import sys, pathlib; from tidemill.store import open_store\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "open_store(pathlib.Path(sys.argv[1]), sys.argv[2] or None).close()"
    )
    command = [sys.executable, "-c", code, str(root), url or ""]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(2)]  # type: ignore[call-overload]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.communicate("go\n")
    assert [process.returncode for process in processes] == [0, 0]
    with open_store(root, url) as store:
        assert differences(store) == []


def test_a_database_belongs_to_one_project(tmp_path: Path, new_url: NewUrl) -> None:
    url = new_url() or f"sqlite:///{tmp_path / 'shared.db'}"
    with create_store(tmp_path / "one", url) as one:
        one.insert(Generation(id="gen_1", number=1, alpha=0.05))
    with pytest.raises(ConflictError, match="exists here already"):
        create_store(tmp_path / "two", url)
    with pytest.raises(StoreError, match=r"belongs to another project.*schema of its own"):
        open_store(tmp_path / "two", url)
    shutil.copytree(tmp_path / "one", tmp_path / "moved")
    with open_store(tmp_path / "moved", url) as moved:
        assert moved.count(Generation) == 1


def test_a_store_that_knew_no_owner_is_taken_by_the_first_that_opens_it(store: Store) -> None:
    with store.database.transaction() as connection:
        before = connection.execute(sa.select(facts)).all()
        connection.execute(facts.delete())
    with open_store(store.root, store.database.url) as opened, opened.database.reading() as connection:
        assert connection.execute(sa.select(facts)).all() == before and len(before) == 1


def test_create_refuses_a_store_that_exists(store: Store) -> None:
    with pytest.raises(ConflictError, match="exists here already"):
        create_store(store.root, store.database.url)


def test_open_refuses_a_folder_without_a_store(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="tidemill init"):
        open_store(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "nosuchdatabase://here/store",
        "sqlite+nosuchdriver:///x.db",
        "mysql://user@localhost/store",
        "postgresql+psycopg2://user@localhost/store",
        "postgresql://user@localhost:port/store",
        "sqlite://",
        "sqlite:///:memory:",
    ],
)
def test_a_url_that_is_none_is_a_fault_of_the_configuration(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match="the store's URL cannot be used"):
        create_store(tmp_path / "store", url)


def test_a_driver_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ExtraMissingError, match="driver 'psycopg' is not installed"):
        create_store(tmp_path / "store", "postgresql+psycopg://user:secret@localhost/store")


def test_a_url_may_name_another_sqlite_file(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    with create_store(tmp_path / "store", url) as made:
        made.insert(Generation(id="gen_1", number=1, alpha=0.05))
    with open_store(tmp_path / "store", url) as opened:
        assert opened.count(Generation) == 1
    assert not (tmp_path / "store" / "store.db").exists()


def test_a_relative_file_lies_in_the_project(tmp_path: Path) -> None:
    with create_store(tmp_path / "project" / ".tidemill", "sqlite:///tables.db"):
        assert (tmp_path / "project" / "tables.db").is_file()


@pytest.mark.parametrize("on", ["sqlite"])
@pytest.mark.parametrize("content", [b"this is no database" * 500, b"SQLite format 3\0" + b"\xff" * 8000])
def test_a_damaged_database_is_told(store: Store, content: bytes) -> None:
    store.close()
    for path in store.root.glob("store.db*"):
        path.unlink()
    (store.root / "store.db").write_bytes(content)
    with pytest.raises(StoreError, match=r"damaged.*Restore it from a backup"):
        open_store(store.root)
    assert (store.root / "store.db").read_bytes() == content


@pytest.mark.parametrize("on", ["sqlite"])
def test_damage_within_a_table_is_told(store: Store) -> None:
    with store.database.transaction() as connection:
        root_page = connection.exec_driver_sql("SELECT rootpage FROM sqlite_master WHERE name = 'cycles'").scalar_one()
        size = connection.exec_driver_sql("PRAGMA page_size").scalar_one()
    with store.database.reading() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    store.close()
    path = store.root / "store.db"
    content = bytearray(path.read_bytes())
    content[(root_page - 1) * size : root_page * size] = b"\xa5" * size
    path.write_bytes(content)
    with open_store(store.root) as opened, pytest.raises(StoreError, match="damaged"):
        opened.find(Cycle)
