"""Of all processes one searches in a run that is in storage."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raysearch.config import Recipe, Study
from raysearch.errors import RunError
from raysearch.records.lock import OWNER
from raysearch.records.run_folder import RunFolder
from raysearch.search import claim
from raysearch.search.book import Book
from raysearch.search.claim import Claim
from raysearch.search.ending import TAKEN, Ending
from raysearch.search.mirror import Mirror
from raysearch.search.run import _room
from raysearch.search.uploads import LONGEST_PAUSE
from raysearch.storage import Storage
from tests.faults.searches import wait_for

ELSEWHERE = {"pid": 7, "host": "elsewhere", "started": 1.0, "token": "another"}


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    storage = Storage.of(str(tmp_path / "storage"))
    storage.write("run.json", b"{}")
    return storage


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def patient(**seconds: float) -> None:
        for name, value in seconds.items():
            monkeypatch.setattr(claim, f"{name.upper()}_SECONDS", value)

    patient(every=0.1, moment=0.3, watch=1.0)
    return patient


def other(storage: Storage, **told: Any) -> None:
    storage.write(OWNER, json.dumps(ELSEWHERE | told).encode())


def test_of_two_at_once_one_goes_on(storage: Storage, patience: Callable[..., None]) -> None:
    start, claims, refused = threading.Barrier(2), list[Claim](), list[str]()

    def begin() -> None:
        start.wait()
        try:
            claims.append(Claim(storage))
        except RunError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=begin) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (len(claims), len(refused)) == (1, 1)
    assert "is searching here" in refused[0]
    claims[0].release()
    assert not storage.has(OWNER)


def test_an_owner_that_writes_again_after_an_outage_lives(
    storage: Storage, patience: Callable[..., None]
) -> None:
    assert claim.WATCH_SECONDS < LONGEST_PAUSE  # Here alone.
    other(storage, time=1.0)
    late = threading.Timer(0.6, other, (storage,), {"time": 2.0})
    late.start()
    with pytest.raises(RunError, match="process 7 on elsewhere is searching here"):
        Claim(storage)
    late.join()


def test_the_watch_is_longer_than_the_longest_pause_of_an_upload() -> None:
    assert claim.WATCH_SECONDS > LONGEST_PAUSE + claim.EVERY_SECONDS


def test_one_that_is_silent_is_taken_for_lost_and_one_that_died_here_is_not_waited_for(
    storage: Storage, patience: Callable[..., None]
) -> None:
    other(storage)
    began = time.monotonic()
    first = Claim(storage)
    assert time.monotonic() - began > 1.0
    first.release(delete=False)
    patience(watch=60.0)
    dead = json.loads(storage.read(OWNER)) | {"pid": 2**30}
    storage.write(OWNER, json.dumps(dead).encode())
    second = Claim(storage)
    assert time.monotonic() - began < 30
    second.release()


def test_a_search_that_was_taken_over_ends_and_writes_nothing_more(
    storage: Storage, run: RunFolder, study: Study, patience: Callable[..., None]
) -> None:
    mirror = Mirror(run, storage, Claim(storage))
    book = Book(run, study, [mirror])
    ending = Ending(book, None, 1)
    book.begin(0, Recipe(architecture="unet"))
    wait_for(lambda: storage.has("trials/0000/recipe.json"), 60, "no upload")
    assert not ending.stop_all()
    other(storage)
    wait_for(lambda: bool(mirror.taken), 60, "not noticed")
    before = storage.files()
    book.begin(1, Recipe(architecture="unet"))
    mirror.leave(0)
    told = "process 7 on elsewhere goes on with the search"
    with pytest.raises(RunError, match=told), _room(run, ending):
        assert ending.stop_all()
    assert ending.cause == TAKEN
    mirror.close()
    assert storage.files() == before
    assert json.loads(storage.read(OWNER)) == ELSEWHERE
