"""What a registry holds by the receipts that came back: the latest word counts, and only proof adds."""

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airgap.errors import Code
from airgap.holdings import Holdings, KeptReceipt, tells_of_holdings
from airgap.receipt import ArtifactProof, MissingContent, Receipt, ReceiptVerdict
from tests.vectors.generate import NOW, imported_receipt, refused_receipt

TARGET = imported_receipt().target
A, B = (f"sha256:{letter * 64}" for letter in "ab")
APP = "team/app:v1"
LAYER = MissingContent(kind="layer", digest=f"sha256:{'c' * 64}")


def proof(digest: str = A, reference: str = APP, *, found: bool = True, lacks: bool = False) -> ArtifactProof:
    return ArtifactProof(
        reference=reference,
        digest=digest,
        found=digest if found else None,
        missing_tags=() if found or "@" in reference else (reference.partition(":")[2],),
        missing=(LAYER,) if lacks else (),
        missing_count=int(lacks),
    )


def receipt(
    *artifacts: ArtifactProof, hour: int = 0, channel: str = "prod", undeclared: Sequence[str] = ()
) -> Receipt:
    """One for an import that came to this, so many hours after another."""
    is_whole = all(one.is_proven for one in artifacts) and not undeclared
    return replace(
        imported_receipt(),
        channel=channel,
        ledger=None,
        verdict=ReceiptVerdict.IMPORTED if is_whole else ReceiptVerdict.PARTIAL,
        code=None if is_whole else Code.IMPORT_INCOMPLETE,
        decided_at=at(hour),
        artifacts=artifacts,
        undeclared=tuple(undeclared),
        undeclared_count=len(undeclared),
    )


def at(hour: int) -> datetime:
    return NOW + timedelta(hours=hour)


def kept(one: Receipt) -> tuple[KeptReceipt, Receipt]:
    sha256 = hashlib.sha256(one.to_bytes()).hexdigest()
    return KeptReceipt(registry=one.target, channel=one.channel or "", sha256=sha256), one


def told(*receipts: Receipt, channel: str = "prod") -> Holdings:
    """What they come to, in whatever order they came."""
    found = [Holdings.told_by(channel, map(kept, one)) for one in itertools.permutations(receipts)]
    assert all(list(one.all()) == list(found[0].all()) for one in found)
    return found[0]


def pointed(holdings: Holdings) -> dict[str, tuple[str, ...]]:
    return {one.digest: one.tags for one in holdings.all()}


def test_what_a_receipt_proves_is_held_on_its_word() -> None:
    other = "team/web@" + B
    one = receipt(proof(), proof(B, other))
    holdings = told(one)
    word = holdings.word_for(APP, A)
    assert word is not None
    assert (word.receipt, word.transfer_id) == (kept(one)[0].name, one.transfer_id)
    assert word.decided_at == one.decided_at
    assert holdings.word_for(other, B) == word
    assert [(one.repository, one.digest, one.tags) for one in holdings.all()] == [
        ("team/app", A, ("v1",)),
        ("team/web", B, ()),
    ]


def test_of_what_nobody_will_ask_about_nothing_is_kept() -> None:
    one = receipt(proof(), proof(B, "team/web:v1"))
    asked = Holdings.told_by("prod", [kept(one)], {APP, f"team/app@{A}"})
    assert asked.word_for(APP, A) == told(one).word_for(APP, A)
    assert [(one.repository, one.tags) for one in asked.all()] == [("team/app", ("v1",))]
    assert list(Holdings.told_by("prod", [kept(one)], set[str]()).all()) == []


@pytest.mark.parametrize(
    ("reference", "digest"),
    [(APP, B), ("team/app:v2", A), ("team/other:v1", A), (f"team/other@{A}", A), (f"team/app@{B}", B)],
    ids=["another digest", "another tag", "another repository", "its digest elsewhere", "its other digest"],
)
def test_nothing_else_is_held(reference: str, digest: str) -> None:
    assert told(receipt(proof())).word_for(reference, digest) is None


def test_manifest_is_held_by_its_digest_although_it_was_ordered_by_a_tag() -> None:
    assert told(receipt(proof())).word_for(f"team/app@{A}", A)


@pytest.mark.parametrize(
    "broken",
    [proof(found=False), proof(lacks=True), replace(proof(), found=B)],
    ids=["gone", "without a layer", "another one"],
)
def test_artifact_that_a_partial_import_does_not_prove_is_not_held(broken: ArtifactProof) -> None:
    whole = proof(B, "team/web:v1")
    holdings = told(receipt(broken, whole))
    assert holdings.word_for(APP, A) is None
    assert holdings.word_for(f"team/app@{A}", A) is None
    assert holdings.word_for("team/web:v1", B)


def test_tag_that_does_not_point_there_is_not_held_and_the_digest_is() -> None:
    holdings = told(receipt(replace(proof(), missing_tags=("v1",))))
    assert holdings.word_for(APP, A) is None
    assert pointed(holdings) == {A: ()}


def test_tag_that_moved_is_held_where_it_went_last() -> None:
    holdings = told(receipt(proof()), receipt(proof(B), hour=1))
    assert holdings.word_for(APP, A) is None
    assert holdings.word_for(APP, B)
    assert pointed(holdings) == {A: (), B: ("v1",)}


def test_later_word_that_something_is_gone_takes_it_away() -> None:
    assert pointed(told(receipt(proof()), receipt(proof(found=False), hour=1))) == {}
    assert pointed(told(receipt(proof()), receipt(proof(lacks=True), hour=1))) == {}
    assert pointed(told(receipt(proof(found=False)), receipt(proof(), hour=1))) == {A: ("v1",)}


def test_last_word_is_named() -> None:
    last = receipt(proof(), hour=2)
    word = told(receipt(proof()), receipt(proof(), hour=1), last).word_for(APP, A)
    assert word is not None
    assert word.decided_at == last.decided_at


def test_two_words_of_one_moment_that_disagree_say_nothing() -> None:
    holdings = told(receipt(proof()), receipt(proof(B)), receipt(proof()))
    assert holdings.word_for(APP, A) is None
    assert holdings.word_for(APP, B) is None
    assert pointed(holdings) == {A: (), B: ()}
    assert told(receipt(proof()), receipt(proof(B)), receipt(proof(), hour=1)).word_for(APP, A)


def test_refusal_and_damage_say_nothing_of_what_is_held() -> None:
    refused = replace(
        receipt(proof(found=False), hour=1),
        verdict=ReceiptVerdict.REFUSED,
        code=Code.REPLAYED,
        channel="prod",
    )
    assert not tells_of_holdings(refused)
    assert not tells_of_holdings(refused_receipt())
    assert told(receipt(proof()), refused).word_for(APP, A)
    assert told(replace(refused, artifacts=(proof(),))).word_for(APP, A) is None


def test_other_channel_takes_away_and_adds_nothing() -> None:
    """Whoever holds the receipt key of another channel must not make this one leave something out."""
    other = receipt(proof(), channel="other")
    assert pointed(told(other)) == {}
    assert told(receipt(proof(B)), replace(other, decided_at=at(1))).word_for(APP, A) is None
    moved = receipt(proof(B), channel="other", hour=1)
    assert pointed(told(receipt(proof()), moved)) == {A: ()}
    assert pointed(told(receipt(proof()), replace(moved, decided_at=at(0)))) == {A: ()}
    assert pointed(told(receipt(proof(), hour=2), moved)) == {A: ("v1",)}
    agreeing = receipt(proof(), channel="other", hour=1)
    assert pointed(told(receipt(proof()), agreeing)) == {A: ("v1",)}
    gone = receipt(proof(found=False), channel="other", hour=1)
    assert pointed(told(receipt(proof()), gone)) == {}


def test_what_nobody_declared_may_have_moved_any_tag() -> None:
    stowaway = receipt(proof(B, "team/web:v1"), hour=1, undeclared=["team/app:v1"])
    holdings = told(receipt(proof()), stowaway)
    assert pointed(holdings) == {A: (), B: ("v1",)}
    assert holdings.word_for(f"team/app@{A}", A)
    assert pointed(told(receipt(proof()), replace(stowaway, channel="other"))) == {A: ()}
    assert pointed(told(receipt(proof(), hour=2), stowaway))[A] == ("v1",)


PROOFS = st.builds(
    proof,
    st.sampled_from([A, B]),
    st.sampled_from([APP, "team/app:v2", "team/web:v1"]),
    found=st.booleans(),
    lacks=st.booleans(),
)
RECEIPTS = st.lists(
    st.builds(
        lambda proofs, hour, channel, undeclared: receipt(
            *proofs, hour=hour, channel=channel, undeclared=undeclared
        ),
        st.lists(PROOFS, min_size=1, max_size=2, unique_by=lambda one: one.reference),
        st.integers(0, 3),
        st.sampled_from(["prod", "prod", "other"]),
        st.sampled_from([(), (), ("team/x:v1",)]),
    ),
    max_size=6,
)


@given(RECEIPTS, st.randoms(use_true_random=False))
def test_order_and_number_of_arrivals_change_nothing(receipts: list[Receipt], random: st.DataObject) -> None:
    again = [*receipts, *receipts]
    random.shuffle(again)  # type: ignore[attr-defined]
    first, second = (Holdings.told_by("prod", map(kept, some)) for some in (receipts, again))
    assert list(first.all()) == list(second.all())


@given(RECEIPTS)
@example(
    [
        receipt(proof(A, "team/app:v2"), proof(A, "team/web:v1")),
        receipt(proof(A, "team/web:v1", found=False), channel="other"),
    ]
)
def test_receipt_of_another_channel_never_adds(receipts: list[Receipt]) -> None:
    own = [one for one in receipts if one.channel == "prod"]
    alone, among = (
        {(one.repository, one.digest): set(one.tags) for one in told_fast(some).all()}
        for some in (own, receipts)
    )
    assert all(manifest in alone and tags <= alone[manifest] for manifest, tags in among.items())


def told_fast(receipts: list[Receipt]) -> Holdings:
    return Holdings.told_by("prod", map(kept, receipts))


@pytest.mark.parametrize("registry", ["target.azurecr.io", "localhost:5000"])
def test_kept_receipt_is_found_by_its_name(registry: str) -> None:
    one = KeptReceipt(registry=registry, channel="prod", sha256="0" * 64)
    assert KeptReceipt.from_name(one.name) == one


@pytest.mark.parametrize(
    "name",
    [
        "holdings/target.azurecr.io/prod/x.dsse.json",
        f"holdings/target.azurecr.io/{'0' * 64}.dsse.json",
        f"holdings/a/b/prod/{'0' * 64}.dsse.json",
        f"x/holdings/target.azurecr.io/prod/{'0' * 64}.dsse.json",
        f"holdings/target.azurecr.io/prod/{'0' * 64}.dsse.json.x",
    ],
)
def test_other_names_are_of_no_receipt(name: str) -> None:
    assert KeptReceipt.from_name(name) is None
