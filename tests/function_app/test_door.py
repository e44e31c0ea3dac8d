"""Places at the target's door: few that are shared, one for each accepted bundle, and each is given back."""

from datetime import timedelta
from typing import Any

import pytest

from function_app.ports import BlobStat
from function_app.storage.door import Door
from tests.function_app.memory import START, MemoryBlobs

DIGEST = "d" * 64


def test_twenty_are_refused_side_by_side_and_an_accepted_bundle_beside_them() -> None:
    door = Door(MemoryBlobs())
    entered = [door.enter(f"import{number}", accepted=None) for number in range(25)]
    assert entered == [True] * 20 + [False] * 5
    assert door.enter("import30", accepted=DIGEST)
    assert not door.enter("import31", accepted=DIGEST)
    assert door.enter("import32", accepted="e" * 64)


def test_what_is_taken_is_not_tried_for(monkeypatch: pytest.MonkeyPatch) -> None:
    blobs, tried = MemoryBlobs(), list[str]()
    door, create = Door(blobs), blobs.create
    for number in range(7):
        door.enter(f"import{number}", accepted=None)

    def watched(container: str, name: str, content: bytes) -> bool:
        tried.append(name)
        return create(container, name, content)

    monkeypatch.setattr(blobs, "create", watched)
    assert door.enter("import8", accepted=None)
    assert tried == ["door/07"]


@pytest.mark.parametrize("accepted", [None, DIGEST])
def test_place_whose_answer_was_lost_is_its_own_and_no_other_is_taken(
    accepted: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK asks again after a lost answer, and is told that there is such a blob."""
    blobs = MemoryBlobs()
    door, create = Door(blobs), blobs.create
    monkeypatch.setattr(blobs, "create", lambda *asked: create(*asked) and False)
    assert door.enter("import1", accepted=accepted)
    assert len(list(door.held())) == 1


def test_place_of_an_accepted_bundle_is_its_own_again_when_its_event_comes_again() -> None:
    door = Door(MemoryBlobs())
    assert [door.enter("import1", accepted=DIGEST) for _ in range(3)] == [True] * 3
    assert [place.name for place in door.held()] == [f"door/{DIGEST}"]


def test_place_is_given_back_by_whoever_has_it_and_by_nobody_else() -> None:
    door = Door(MemoryBlobs())
    door.enter("import1", accepted=None)
    door.enter("import2", accepted=DIGEST)
    door.leave("import3")
    assert {place.instance for place in door.held()} == {"import1", "import2"}
    door.leave("import1")
    assert [(place.name, place.instance) for place in door.held()] == [(f"door/{DIGEST}", "import2")]


def overtaking(blobs: MemoryBlobs, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the next such call the place is another's."""
    real = getattr(blobs, call)

    def overtaken(*asked: Any, **more: Any) -> Any:
        monkeypatch.undo()
        found = real(*asked, **more)
        blobs.put("work", "door/00", b"import2")
        return found

    monkeypatch.setattr(blobs, call, overtaken)


def test_place_that_changes_hands_while_it_is_looked_at_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    blobs = MemoryBlobs()
    Door(blobs).enter("import1", accepted=None)
    overtaking(blobs, "stat", monkeypatch)
    assert list(Door(blobs).held()) == []


def test_place_that_changes_hands_while_it_is_given_back_stays_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    blobs = MemoryBlobs()
    Door(blobs).enter("import1", accepted=None)
    overtaking(blobs, "read", monkeypatch)
    Door(blobs).leave("import1")
    assert [place.instance for place in Door(blobs).held()] == ["import2"]


def test_place_that_is_given_back_while_it_is_looked_at_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = MemoryBlobs()
    for number in range(2):
        Door(blobs).enter(f"import{number}", accepted=None)
    stat = blobs.stat

    def gone(container: str, name: str) -> BlobStat | None:
        return None if name == "door/00" else stat(container, name)

    monkeypatch.setattr(blobs, "stat", gone)
    assert [place.instance for place in Door(blobs).held()] == ["import1"]


def test_place_is_old_once_it_was_taken_before_that_moment() -> None:
    door = Door(MemoryBlobs())
    door.enter("import1", accepted=None)
    assert list(door.held(before=START)) == []
    assert [place.instance for place in door.held(before=START + timedelta(seconds=1))] == ["import1"]


@pytest.mark.parametrize(
    ("content", "instances"),
    [(b"x" * 256, ["x" * 256]), (b"x" * 257, []), (b"\xff", ["\N{REPLACEMENT CHARACTER}"])],
)
def test_whatever_somebody_wrote_into_a_place_keeps_no_other_from_being_seen(
    content: bytes, instances: list[str]
) -> None:
    blobs = MemoryBlobs()
    blobs.put("work", "door/00", content)
    Door(blobs).enter("import1", accepted=None)
    assert [place.instance for place in Door(blobs).held()] == [*instances, "import1"]
