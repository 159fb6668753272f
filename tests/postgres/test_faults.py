"""The server goes away, comes back, freezes, is killed or fills its disk: what the caller sees, and what is kept."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from _postgres import Server
from tidemill.errors import BusyError, ConfigError, InputError, StoreError, TidemillError
from tidemill.records import Feedback, Generation, Prediction, new_id
from tidemill.store import FeedbackWriter, JournalWriter, Store, create_store, fold, new_prediction_id, open_store


def feedback(**fields: object) -> Feedback:
    identifier = new_id(Feedback.prefix)
    return Feedback(
        **{"id": identifier, "subject": identifier, "kind": "rating", "value": 1.0, "key": identifier, **fields}
    )  # type: ignore[arg-type]


def prediction(store: Store) -> Prediction:
    identifier = new_prediction_id(store.secret)
    return Prediction(id=identifier, deployment="d", model_id="m", key=identifier[-16:], inputs={}, answer={})


def test_a_restart_between_two_calls_is_not_noticed(store: Store, server: Server) -> None:
    store.add_feedback([feedback()])
    server.stop()
    server.start()
    assert store.count(Feedback) == 1
    server.kill()
    server.start()
    assert store.add_feedback([feedback()])[0].status == "accepted" and store.count(Feedback) == 2


def test_while_it_is_away_each_call_says_so_and_answers_are_still_journaled(store: Store, server: Server) -> None:
    journal, writer = JournalWriter(store.root), FeedbackWriter(store)
    first = prediction(store)
    journal.submit(first).result()
    writer.submit(feedback()).result()
    server.stop()
    calls: list[Callable[[], object]] = [
        lambda: store.count(Feedback),
        lambda: store.insert(Generation(id="gen_1", number=1, alpha=0.05)),
        lambda: writer.submit(feedback()).result(),
        lambda: fold(store),
        lambda: open_store(store.root, store.database.url),
    ]
    for call in calls:
        with pytest.raises(StoreError, match=r"the database cannot be reached.*Check that the server runs.*try again"):
            call()
    second = prediction(store)
    journal.submit(second).result()  # a prediction is acknowledged all the same
    server.start()
    assert writer.submit(feedback()).result().status == "accepted"
    journal.close()
    writer.close()
    assert fold(store) == 2 and store.find(Prediction) == [first, second]
    assert store.count(Feedback) == 2 and store.count(Generation) == 0


def test_long_work_waits_for_a_server_that_is_away(store: Store, server: Server) -> None:
    store.insert(Generation(id="gen_1", number=1, alpha=0.05))
    server.stop()
    counted: list[int] = []

    def work() -> None:
        with store.database.patient(60):
            store.insert(Generation(id="gen_2", number=2, alpha=0.05))
            counted.append(store.count(Generation))

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(1)
    assert counted == [] and thread.is_alive()
    server.start()
    thread.join()
    assert counted == [2]
    server.stop()
    with pytest.raises(StoreError, match="cannot be reached"), store.database.patient(0.5):
        store.count(Generation)


def test_a_connection_lost_in_the_middle_leaves_nothing_and_says_what_a_repetition_does(
    store: Store, server: Server
) -> None:
    item = feedback()

    def write() -> None:
        with store.transaction():
            store.add_feedback([item])
            end_all(server)
            store.add_feedback([feedback()])

    with pytest.raises(StoreError, match=r"connection to the database was lost.*whole or not at all.*kept once"):
        write()
    assert store.add_feedback([item])[0].status == "accepted" and store.count(Feedback) == 1


def end_all(server: Server) -> None:
    """What a database administrator does to connections that are in the way."""
    with server.connect() as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tidemill'")


def test_whoever_waits_for_a_frozen_server_is_answered_when_it_goes_on(store: Store, server: Server) -> None:
    writer = FeedbackWriter(store)
    writer.submit(feedback()).result()
    server.pause()
    futures = [writer.submit(feedback()) for _ in range(5)]
    time.sleep(2)
    assert not any(future.done() for future in futures)
    server.resume()
    assert {future.result(timeout=60).status for future in futures} == {"accepted"}
    writer.close()
    assert store.count(Feedback) == 6


class Crowd:
    """Feedback from several threads, each piece repeated with its key until it is acknowledged, and predictions."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.said: list[str] = []
        self.predicted: list[str] = []
        self.refused: list[str] = []
        self.failures: list[BaseException] = []
        self._writer, self._journal = FeedbackWriter(store), JournalWriter(store.root)
        self._stop = threading.Event()
        work = (self._say, self._say, self._say, self._predict, self._fold)
        self._threads = [threading.Thread(target=self._run, args=(w,)) for w in work]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._writer.close()
        self._journal.close()

    def more(self, count: int) -> None:
        """Wait until so many more pieces were acknowledged."""
        goal = len(self.said) + count
        deadline = time.monotonic() + 60
        while len(self.said) < goal:
            assert not self.failures and time.monotonic() < deadline, self.failures
            time.sleep(0.002)

    def _run(self, work: Callable[[], None]) -> None:
        try:
            while not self._stop.is_set():
                work()
        except BaseException as error:
            self.failures.append(error)

    def _say(self) -> None:
        item = feedback()
        while True:
            try:
                outcome = self._writer.submit(item).result()
            except StoreError as error:
                self.refused.append(str(error))
                time.sleep(0.02)
                continue
            assert outcome.status in {"accepted", "repeated"} and outcome.feedback.id == item.id
            self.said.append(item.id)
            return

    def _predict(self) -> None:
        made = prediction(self.store)
        self._journal.submit(made).result()
        self.predicted.append(made.id)

    def _fold(self) -> None:
        with contextlib.suppress(StoreError):
            fold(self.store)
        time.sleep(0.01)


def kills(store: Store, server: Server, rounds: int) -> None:
    crowd = Crowd(store)
    for turn in range(rounds):
        crowd.more(20 + turn % 7)
        server.kill()
        server.start()
    crowd.more(10)
    crowd.join()
    assert crowd.failures == []
    fold(store)
    assert sorted(f.id for f in store.find(Feedback)) == sorted(crowd.said), "each piece is kept once"
    assert sorted(p.id for p in store.find(Prediction)) == sorted(crowd.predicted)
    assert len(crowd.said) >= 20 * rounds and crowd.refused
    assert all(re.search(r"was lost|cannot be reached", text) for text in crowd.refused), set(crowd.refused)


def test_five_kills_of_the_server_lose_and_double_nothing(store: Store, server: Server) -> None:
    kills(store, server, 5)


@pytest.mark.long
def test_a_hundred_kills_of_the_server_lose_and_double_nothing(store: Store, server: Server) -> None:
    kills(store, server, 100)


def test_a_server_that_may_not_be_written_is_told(server: Server, tmp_path: Path) -> None:
    name = server.make_database()
    create_store(tmp_path / "read", server.url(name)).close()
    with server.connect() as connection:
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with open_store(tmp_path / "read", server.url(name)) as reader:
        assert reader.count(Feedback) == 0
        with pytest.raises(StoreError, match=r"cannot be written \(cannot execute INSERT in a read-only transaction\)"):
            reader.add_feedback([feedback()])


def test_a_server_told_not_to_wait_for_its_disk_waits_for_it_all_the_same(server: Server, tmp_path: Path) -> None:
    name = server.make_database()
    with server.connect() as connection:
        connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    with create_store(tmp_path / "store", server.url(name)) as opened, opened.database.transaction() as connection:
        shown = {
            n: connection.exec_driver_sql(f"SHOW {n}").scalar_one() for n in ("synchronous_commit", "lock_timeout")
        }
        assert shown == {"synchronous_commit": "on", "lock_timeout": "20s"}
        assert connection.exec_driver_sql("SHOW idle_in_transaction_session_timeout").scalar_one() == "1min"


def test_a_client_that_stands_still_in_a_transaction_is_put_out(store: Store) -> None:
    """Or everybody would wait for it for ever. Here after half a second instead of a minute."""
    code = """
import pathlib, sys, time
from tidemill.records import Generation
from tidemill.store import open_store
store = open_store(pathlib.Path(sys.argv[1]), sys.argv[2])
with store.database.transaction() as connection:
    connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 500")
    store.insert(Generation(id="gen_1", number=1, alpha=0.05))
    print("holds", flush=True)
    time.sleep(600)
"""
    command = [sys.executable, "-c", code, str(store.root), store.database.url or ""]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "holds\n"
        process.send_signal(signal.SIGSTOP)
        store.insert(Generation(id="gen_2", number=1, alpha=0.05))
        process.kill()
    assert [g.id for g in store.find(Generation)] == ["gen_2"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"database": "nowhere"}, r'database "nowhere" does not exist'),
        ({"username": "nobody_here"}, r'role "nobody_here" does not exist'),
        ({"query": {"host": "/nowhere"}}, "No such file or directory"),
        ({"host": "127.0.0.1", "port": 1, "query": {}, "password": "se:cret"}, "Connection refused"),
    ],
)
def test_an_address_that_leads_nowhere_is_told_without_its_password(
    store: Store, change: dict[str, object], told: str
) -> None:
    url = sa.make_url(store.database.url or "").set(**change).render_as_string(hide_password=False)  # type: ignore[arg-type]
    with pytest.raises(StoreError, match=rf"cannot be reached \(.*{told}.*\)") as error:
        open_store(store.root, url)
    assert "cret" not in str(error.value) and "\n" not in str(error.value)
    assert "psycopg" not in str(error.value)


def test_a_database_that_cannot_hold_every_text_is_refused(server: Server, tmp_path: Path) -> None:
    url = server.url(server.make_database("ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"))
    with pytest.raises(ConfigError, match=r"holds texts as LATIN1, which cannot hold all of them.*ENCODING 'UTF8'"):
        create_store(tmp_path / ".tidemill", url)


def test_two_projects_share_a_database_by_schemas(server: Server, tmp_path: Path) -> None:
    name = server.make_database()
    one, two = (server.url(name, options=f"-csearch_path={schema}") for schema in ("tides", "mills"))
    with pytest.raises(StoreError, match=r"cannot be written.*a schema in which the user may make tables"):
        create_store(tmp_path / "one", one)
    with server.connect(name) as connection:
        connection.execute("CREATE SCHEMA tides; CREATE SCHEMA mills")
    with create_store(tmp_path / "one", one) as tides, create_store(tmp_path / "two", two) as mills:
        tides.insert(Generation(id="gen_1", number=1, alpha=0.05))
        assert tides.count(Generation) == 1 and mills.count(Generation) == 0
        with tides.transaction():  # neither waits for the other
            tides.insert(Generation(id="gen_2", number=2, alpha=0.05))
            mills.insert(Generation(id="gen_1", number=1, alpha=0.05))
        assert tides.usage()["database"] > 0


def test_a_database_of_other_tables_is_left_alone(server: Server, tmp_path: Path) -> None:
    name = server.make_database()
    with server.connect(name) as connection:
        connection.execute("CREATE TABLE runs (a int)")
    with pytest.raises(TidemillError, match=r'relation "runs" already exists'):
        create_store(tmp_path / ".tidemill", server.url(name))
    with server.connect(name) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    assert tables == [("runs",)]


def test_a_wait_for_another_writer_ends(store: Store) -> None:
    with open_store(store.root, store.database.url) as other, other.transaction():
        with store.database.reading() as connection:
            connection.exec_driver_sql("SET lock_timeout = 50")
        with pytest.raises(BusyError, match=r"another process has held the database"):
            store.add_feedback([feedback()])
    assert store.add_feedback([feedback()])[0].status == "accepted"


def test_a_number_that_no_column_holds_is_the_callers_fault(store: Store) -> None:
    with pytest.raises(InputError, match="cannot be stored"):
        store.insert(Generation(id="gen_1", number=2**63, alpha=0.05))
