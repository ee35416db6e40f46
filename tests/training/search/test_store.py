"""Where a study lives: which address means what, who is alive, and journals that were torn."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.errors import InputError, OutsideError
from flows.training.search.store import JournalStore, PostgresStore, Store, find_store
from tests.training.search.postgres import postgres_url

__all__ = ["postgres_url"]

HOLDER = """
import sys
from pathlib import Path
from flows.training.search.store import find_store
with find_store(sys.argv[1], Path(sys.argv[2])).living("somebody"):
    print("alive", flush=True)
    sys.stdin.read()
"""

APPENDER = """
import sys
from pathlib import Path
from flows.training.search.store import JournalStore
JournalStore(Path(sys.argv[1])).open()._backend._lock.acquire()
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module", params=["journal", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Store:
    path = tmp_path_factory.mktemp("store") / "study.journal"
    address = request.getfixturevalue("postgres_url") if request.param == "postgresql" else ""
    return find_store(address, path)


def _address(store: Store) -> tuple[str, str]:
    if isinstance(store, PostgresStore):
        return store._url, ""
    assert isinstance(store, JournalStore)
    return "", str(store._path)


@pytest.fixture
def holder(store: Store) -> Iterator[subprocess.Popen[str]]:
    """A process that lives as somebody."""
    argv = [sys.executable, "-c", HOLDER, *_address(store)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "alive\n"
        yield process
        process.kill()


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("", "the journal a.journal"),
        ("shared/b.journal", "the journal b.journal"),
        ("postgresql://me:secret@db.example:5433/tuning", "PostgreSQL at db.example/tuning"),
        ("postgres://db.example/tuning", "PostgreSQL at db.example/tuning"),
        ("postgresql+psycopg://me@db.example/tuning", "PostgreSQL at db.example/tuning"),
    ],
)
def test_an_address_names_a_store_without_its_password(address: str, name: str) -> None:
    assert find_store(address, Path("a.journal")).name == name


@pytest.mark.parametrize("address", ["mysql://me:secret@host/x", "sqlite:///a.db", "/tmp/x.db", "file://x.journal"])
def test_an_address_that_is_none_is_refused_without_repeating_it(address: str) -> None:
    with pytest.raises(InputError) as caught:
        find_store(address, Path("a.journal"))
    assert "TCA_TUNE_STORAGE" in str(caught.value)
    assert address not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("address", ["postgresql://me:tops3cret@127.0.0.1:1/x", "postgresql://me:tops3cret@h:port/x"])
def test_a_server_that_does_not_answer_is_named_without_the_password(address: str) -> None:
    with pytest.raises((OutsideError, InputError)) as caught:
        find_store(address, Path("a.journal")).open()
    assert "tops3cret" not in str(caught.value)
    assert "TCA_TUNE_STORAGE" in str(caught.value)


def test_a_worker_lives_within_its_block(store: Store) -> None:
    assert not store.is_living("me")
    with store.living("me"):
        assert store.is_living("me")
        assert not store.is_living("you")
    assert not store.is_living("me")


def test_a_killed_worker_is_known_at_once(store: Store, holder: subprocess.Popen[str]) -> None:
    assert store.is_living("somebody")
    holder.send_signal(signal.SIGSTOP)  # however slow it is
    assert store.is_living("somebody")
    holder.kill()
    holder.wait()
    deadline = threading.Event()
    for _ in range(100):  # the server of PostgreSQL hears of it a moment later
        if not store.is_living("somebody"):
            break
        deadline.wait(0.1)
    assert not store.is_living("somebody")


def test_one_at_a_time_decides(store: Store) -> None:
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        for _ in range(10):
            with store.deciding("study"):
                inside.append(1)
                time.sleep(0.001)  # time for another one to come in, if it can
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 40
    assert max(most) == 1


def test_a_store_can_be_opened_twice(store: Store) -> None:
    first = optuna.create_study(study_name="twice", storage=store.open())
    first.add_trial(optuna.trial.create_trial(value=1.0))
    again = optuna.load_study(study_name="twice", storage=store.open())
    assert again.best_value == 1.0


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_torn_journal_loses_its_last_line_only(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Power lost, or disk full, in the middle of a line: Optuna alone would refuse all that follows."""
    path = tmp_path_factory.mktemp("torn") / "study.journal"
    study = optuna.create_study(study_name="torn", storage=JournalStore(path).open())
    for value in (1.0, 2.0):
        study.add_trial(optuna.trial.create_trial(value=value))
    whole = path.read_bytes()
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    cut = data.draw(st.integers(last + 1, len(whole) - 1))
    path.write_bytes(whole[:cut])
    again = optuna.load_study(study_name="torn", storage=JournalStore(path).open())
    assert [trial.value for trial in again.trials] == [1.0]
    again.add_trial(optuna.trial.create_trial(value=3.0))
    fresh = optuna.load_study(study_name="torn", storage=JournalStore(path).open())
    assert [trial.value for trial in fresh.trials] == [1.0, 3.0]


def test_a_line_torn_by_another_is_mended_by_the_next_write(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    study = optuna.create_study(study_name="torn", storage=JournalStore(path).open())
    with path.open("ab") as stream:
        stream.write(b'{"op_code": 4, "wor')
    study.add_trial(optuna.trial.create_trial(value=1.0))
    assert optuna.load_study(study_name="torn", storage=JournalStore(path).open()).best_value == 1.0


def test_a_lock_of_a_dead_process_delays_nobody(tmp_path: Path) -> None:
    """Optuna's own lock file would be waited for half a minute."""
    path = tmp_path / "study.journal"
    optuna.create_study(study_name="left", storage=JournalStore(path).open())
    assert not path.with_name("study.journal.lock").exists()
    argv = [sys.executable, "-c", APPENDER, str(path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        process.kill()
    began = time.monotonic()
    study = optuna.load_study(study_name="left", storage=JournalStore(path).open())
    study.add_trial(optuna.trial.create_trial(value=1.0))
    assert study.best_value == 1.0
    assert time.monotonic() - began < 15
