"""The tables come from migrations, and a store is brought up to date when it is opened."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from tidemill.errors import ConfigError, ConflictError, ExtraMissingError, NotFoundError, StoreError
from tidemill.records import Cycle, Generation, Token
from tidemill.store import Store, create_store, migrations, open_store
from tidemill.store.tables import metadata


def test_the_migrations_make_the_tables_that_the_records_need(store: Store) -> None:
    with store.database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        tables = set(sa.inspect(connection).get_table_names())
    assert tables == {*metadata.tables, "alembic_version"} and len(tables) > 14


def test_head_is_the_newest_revision() -> None:
    folder = migrations.__file__
    assert ScriptDirectory(str(Path(folder).parent)).get_heads() == [migrations.HEAD]


def test_upgrading_twice_changes_nothing(store: Store) -> None:
    def schema() -> list[tuple[str, str]]:
        with store.database.reading() as connection:
            rows = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master ORDER BY name")
            return [(row[0], row[1]) for row in rows]

    before = schema()
    migrations.upgrade(store.database)
    assert schema() == before and migrations.revision(store.database) == migrations.HEAD


def test_opening_a_current_store_leaves_alembic_alone(store: Store) -> None:
    code = (
        "import sys, pathlib; from tidemill.store import open_store; from tidemill.records import Cycle\n"
        "with open_store(pathlib.Path(sys.argv[1])) as store: assert store.find(Cycle) == []\n"
        "print([name for name in ('alembic', 'torch', 'numpy', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(store.root)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_store_from_the_future_is_refused_and_left_alone(store: Store) -> None:
    with store.database.transaction() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    store.close()
    with pytest.raises(StoreError, match="newer Tidemill"):
        open_store(store.root)
    with sa.create_engine(f"sqlite:///{store.root / 'store.db'}").connect() as connection:
        assert connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar() == "9999"
        connection.engine.dispose()


def test_an_interrupted_creation_is_finished_by_the_next(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    root = store.root.with_name("half")
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "upgrade", lambda _database: sys.exit("killed"))
        with pytest.raises(SystemExit):
            create_store(root)
    with pytest.raises(StoreError, match="interrupted"):
        open_store(root)
    secret = (root / "secret").read_bytes()
    with create_store(root) as finished:
        assert finished.find(Cycle) == [] and (root / "secret").read_bytes() == secret


def test_a_failed_migration_leaves_no_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest revision fails at its end: neither its tables nor those before it are left."""
    folder = tmp_path / "migrations"
    shutil.copytree(Path(migrations.__file__).parent, folder)
    newest = max((folder / "versions").glob("v*.py"))
    newest.write_text(newest.read_text(encoding="utf-8") + "\n    raise OSError('pulled the plug')\n")
    monkeypatch.setattr(migrations, "__file__", str(folder / "__init__.py"))
    with pytest.raises(OSError, match="pulled the plug"):
        create_store(tmp_path / "store")
    monkeypatch.undo()
    with create_store(tmp_path / "store") as finished:
        assert finished.count(Cycle) == 0


def test_a_store_of_every_earlier_revision_is_brought_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(migrations.__file__).parent / "versions"
    earlier = sorted(path.name[1:5] for path in folder.glob("v*.py"))[:-1]
    assert earlier
    for head in earlier:
        root = tmp_path / head
        monkeypatch.setattr(migrations, "HEAD", head)
        with create_store(root) as old:
            old.insert(Generation(id="gen_1", number=1, alpha=0.05))
            assert migrations.revision(old.database) == head
        monkeypatch.undo()
        with open_store(root) as new:
            assert migrations.revision(new.database) == migrations.HEAD
            assert new.get(Generation, "gen_1").alpha == 0.05
            assert new.find(Token) == []
            with new.database.reading() as connection:
                context = MigrationContext.configure(connection, opts={"compare_type": True})
                assert compare_metadata(context, metadata) == []


def test_create_refuses_a_store_that_exists(store: Store) -> None:
    with pytest.raises(ConflictError, match="exists here already"):
        create_store(store.root)


def test_open_refuses_a_folder_without_a_store(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="tidemill init"):
        open_store(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["nonsense", "nosuchdatabase://here/store", "sqlite+nosuchdriver:///x.db"])
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


@pytest.mark.parametrize("content", [b"this is no database" * 500, b"SQLite format 3\0" + b"\xff" * 8000])
def test_a_damaged_database_is_told(store: Store, content: bytes) -> None:
    store.close()
    for path in store.root.glob("store.db*"):
        path.unlink()
    (store.root / "store.db").write_bytes(content)
    with pytest.raises(StoreError, match=r"damaged.*Restore it from a backup"):
        open_store(store.root)
    assert (store.root / "store.db").read_bytes() == content


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
