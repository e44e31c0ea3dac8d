"""The queue of a channel: the lowest number is next, whoever came first, and nobody is given up."""

import pytest

from airgap.errors import Code, PolicyRefusal
from function_app.storage.turns import HeldPlace, Turns, held_places
from tests.function_app.memory import MemoryBlobs


@pytest.fixture
def turns() -> Turns:
    return Turns(MemoryBlobs(), "prod")


def test_later_bundle_does_not_overtake_the_earlier_one_that_came_after_it(turns: Turns) -> None:
    turns.enter(10, "later")
    turns.enter(9, "earlier")
    assert not turns.take("later")
    assert turns.take("earlier")
    assert turns.take("earlier")  # delivered once more
    assert not turns.take("later")
    turns.leave("earlier")
    assert turns.take("later")


def test_turn_is_not_taken_from_whoever_has_it_by_a_lower_number(turns: Turns) -> None:
    turns.enter(2, "second")
    assert turns.take("second")
    turns.enter(1, "first")
    assert not turns.take("first")
    assert (turns.has("second"), turns.has("first")) == (True, False)
    turns.leave("second")
    assert turns.take("first")


def test_two_bundles_of_one_number_have_one_turn(turns: Turns) -> None:
    turns.enter(1, "one")
    turns.enter(1, "other")
    assert [turns.take("one"), turns.take("other")] == [True, False]


def test_place_that_was_entered_twice_is_one(turns: Turns) -> None:
    turns.enter(5, "import1")
    turns.enter(5, "import1")
    assert [place.name for place in held_places(turns.blobs)] == [
        "channels/prod/waiting/0000000000000005-import1"
    ]
    turns.leave("import1")
    assert not turns.waits("import1")


def test_who_waits_no_more_takes_no_turn(turns: Turns) -> None:
    turns.enter(1, "import1")
    turns.leave("import1")
    with pytest.raises(PolicyRefusal) as refusal:
        turns.take("import1")
    assert refusal.value.code is Code.TRANSITION_REFUSED


def test_who_leaves_gives_back_no_turn_of_another(turns: Turns) -> None:
    turns.enter(1, "first")
    turns.enter(2, "second")
    assert turns.take("first")
    turns.leave("second")
    assert turns.has("first")
    assert not turns.waits("second")


def test_channels_have_turns_of_their_own(turns: Turns) -> None:
    other = Turns(turns.blobs, "prod-eu")
    turns.enter(1, "here")
    other.enter(1, "there")
    assert (turns.take("here"), other.take("there")) == (True, True)


def test_every_turn_and_place_is_told_with_whose_it_is_and_nothing_else(turns: Turns) -> None:
    turns.enter(1, "first")
    turns.enter(2, "second")
    assert turns.take("first")
    turns.blobs.create("work", "channels/prod/held", b"x")
    turn = turns.blobs.stat("work", "channels/prod/turn")
    assert turn is not None
    assert set(held_places(turns.blobs)) == {
        HeldPlace(name="channels/prod/turn", instance="first", etag=turn.etag),
        HeldPlace(name="channels/prod/waiting/0000000000000001-first", instance="first", etag=None),
        HeldPlace(name="channels/prod/waiting/0000000000000002-second", instance="second", etag=None),
    }
