"""What selectors take, as far as names and times tell, and how a request says it."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from function_app.http.faults import MISSING, Faults
from function_app.oci import TagState
from function_app.source.selection import (
    Exclusion,
    Selector,
    has_texts,
    read_exclusions,
    read_selectors,
    taken,
    written_at,
)

DIGEST = f"sha256:{'a' * 64}"
REFERRERS_TAG = f"sha256-{'a' * 64}"


def tag(name: str, day: int = 1) -> tuple[str, TagState]:
    return name, TagState(digest=DIGEST, written_at=f"2026-11-{day:02}T08:00:00.1234567Z")


def take(selector: Selector, *names: str) -> list[str]:
    return sorted(name for name, _ in selector.matching([tag(name) for name in names]))


def select(**said: Any) -> Selector:
    return Selector.from_json({"repositories": ["team/app"], **said})


TAGS = ("v1.2.3", "v1.10.0", "1.3.0", "2.0.0", "2.0.0-rc.1", "latest", "v1.2.3-debug")


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({}, set(TAGS)),
        ({"tags": ["v1.*"]}, {"v1.2.3", "v1.10.0", "v1.2.3-debug"}),
        ({"tags": ["latest", "?.0.0"]}, {"latest", "2.0.0"}),
        ({"tags": ["V1.*"]}, set()),
        ({"tagsMatching": r"v\d+\.\d+\.\d+"}, {"v1.2.3", "v1.10.0"}),
        ({"tagsMatching": "1"}, set()),
        ({"versions": ">=1.2.3 <2"}, {"v1.2.3", "v1.10.0", "1.3.0"}),
        ({"versions": "^1.9 || 2.x"}, {"v1.10.0", "2.0.0"}),
        ({"versions": ">=2.0.0-rc.0"}, {"2.0.0", "2.0.0-rc.1"}),
        ({"tags": ["v*"], "versions": "1.x"}, {"v1.2.3", "v1.10.0"}),
    ],
    ids=lambda value: str(value) if type(value) is dict else "",
)
def test_tag_is_taken_if_all_holds_that_the_selector_says(said: dict[str, Any], wanted: set[str]) -> None:
    assert set(take(select(**said), *TAGS)) == wanted


def test_tags_come_with_those_first_that_were_written_to_last() -> None:
    tags = [tag("old", 1), tag("new", 3), tag("a", 2), tag("b", 2)]
    assert [name for name, _ in select().matching(tags)] == ["new", "a", "b", "old"]


@pytest.mark.parametrize(("since", "wanted"), [("07:59:59", 2), ("08:00:00", 2), ("08:00:01", 1)])
def test_time_of_the_last_write_counts_from_its_very_second(since: str, wanted: int) -> None:
    then = TagState(digest=DIGEST, written_at="2026-11-02T08:00:00.0000000Z")
    tags = [tag("old", 1), ("then", then), tag("new", 3)]
    assert len(select(updatedSince=f"2026-11-02T{since}Z").matching(tags)) == wanted


@pytest.mark.parametrize("name", [REFERRERS_TAG, f"{REFERRERS_TAG}.sig", f"{REFERRERS_TAG}.att"])
def test_what_belongs_to_another_artifact_is_never_selected(name: str) -> None:
    """An order that wants no signatures would get them all, under their tags."""
    assert take(select(), name, "v1") == ["v1"]
    assert take(select(tags=["sha256-*"]), name) == []


def test_expression_that_ruins_a_backtracking_engine_is_matched() -> None:
    assert take(select(tagsMatching="(a+)+b"), "a" * 128) == []


@pytest.mark.parametrize(
    ("written", "at"),
    [
        ("2026-11-02T08:00:00.1234567Z", datetime(2026, 11, 2, 8, 0, 0, 123456, tzinfo=UTC)),
        ("2026-11-02T08:00:00Z", datetime(2026, 11, 2, 8, tzinfo=UTC)),
        ("2026-11-02T08:00:00.5Z", datetime(2026, 11, 2, 8, 0, 0, 500000, tzinfo=UTC)),
    ],
)
def test_times_are_read_as_registries_write_them(written: str, at: datetime) -> None:
    assert written_at(TagState(digest=DIGEST, written_at=written)) == at


def test_selector_says_whether_it_names_every_repository_that_it_means() -> None:
    assert select().names_its_repositories
    assert not Selector(repositories=("team/app", "team/*")).names_its_repositories


def test_exclusion_takes_tags_or_whole_repositories_away() -> None:
    debug, all_of_it = Exclusion.read("team/*:*-debug"), Exclusion.read("team/secret")
    assert debug.excludes("team/app", "v1-debug")
    assert not debug.excludes("team/app", "v1")
    assert not debug.excludes("other/app", "v1-debug")
    assert all_of_it.excludes("team/secret", "v1")
    everything = [Selector(repositories=("**",))]
    assert taken(everything, [debug, all_of_it], "team/secret") == ()
    assert taken(everything, [debug, all_of_it], "team/app") == everything


@pytest.mark.parametrize(
    ("given_texts", "is_there"),
    [
        ({"team": "blue", "x": "y"}, True),
        ({"team": "bl"}, False),
        ({}, False),
        (None, False),
        ({"team": 7}, False),
    ],
)
def test_texts_are_there_or_not(given_texts: Any, is_there: bool) -> None:
    assert has_texts({"team": "blu*"}, given_texts) is is_there
    assert has_texts({}, given_texts)


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ([], "select"),
        ({}, "select"),
        ([{"repositories": ["a"]}] * 21, "select"),
        ([7], "select[0]"),
        ([{}], "select[0].repositories"),
        ([{"repositories": "team/app"}], "select[0].repositories"),
        ([{"repositories": ["team/app", "Team"]}], "select[0].repositories[1]"),
        ([{"repositories": ["a"]}, {"repositories": ["a"], "tags": ["[ab]"]}], "select[1].tags[0]"),
        ([{"repositories": ["a"], "tags": [""]}], "select[0].tags[0]"),
        ([{"repositories": ["a"], "tagsMatching": "(?=b)"}], "select[0].tagsMatching"),
        ([{"repositories": ["a"], "tagsMatching": "a" * 257}], "select[0].tagsMatching"),
        ([{"repositories": ["a"], "tagsMatching": "(((a{99}){99}){99})"}], "select[0].tagsMatching"),
        ([{"repositories": ["a"], "versions": "latest"}], "select[0].versions"),
        ([{"repositories": ["a"], "versions": ""}], "select[0].versions"),
        ([{"repositories": ["a"], "updatedSince": "yesterday"}], "select[0].updatedSince"),
        ([{"repositories": ["a"], "newest": 0}], "select[0].newest"),
        ([{"repositories": ["a"], "newest": True}], "select[0].newest"),
        ([{"repositories": ["a"], "labels": {}}], "select[0].labels"),
        ([{"repositories": ["a"], "labels": {"team": 7}}], "select[0].labels"),
        ([{"repositories": ["a"], "annotations": {str(n): "x" for n in range(11)}}], "select[0].annotations"),
        ([{"repositories": ["a"], "tag": "v1"}], "select[0].tag"),
    ],
    ids=lambda value: value if type(value) is str else "",
)
def test_invalid_selector_is_named(raw: Any, field: str) -> None:
    faults = Faults()
    read_selectors(raw, faults)
    assert [fault.field for fault in faults.told] == [field]
    assert faults.told[0].wanted


@pytest.mark.parametrize(
    ("raw", "field"),
    [([], "exclude"), (["Team"], "exclude[0]"), (["a", "a:"], "exclude[1]"), ([["a"]], "exclude[0]")],
)
def test_invalid_exclusion_is_named(raw: Any, field: str) -> None:
    faults = Faults()
    assert read_exclusions(raw, faults) == ()
    assert [fault.field for fault in faults.told] == [field]


def one(**said: Any) -> list[dict[str, Any]]:
    return [{"repositories": ["a"], **said}]


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (one() * 20, one() * 21),
        (one(), tuple(one())),
        ([{"repositories": ["a"] * 50}], [{"repositories": ["a"] * 51}]),
        ([{"repositories": ["a" * 256]}], [{"repositories": ["a" * 257]}]),
        (one(tags=["t" * 128]), one(tags=["t" * 129])),
        (one(tags=["v1"]), one(tags=["v\u0661"])),
        (one(tags=["v*"] * 50), one(tags=["v*"] * 51)),
        (one(tagsMatching="a" * 256), one(tagsMatching="a" * 257)),
        (one(tagsMatching="a b"), one(tagsMatching="a\nb")),
        (one(updatedSince="2026-11-02T08:00:00Z"), one(updatedSince=20261102)),
        (one(newest=5000), one(newest=5001)),
        (one(newest=1), one(newest=0)),
        (
            one(labels={str(number): "x" for number in range(10)}),
            one(labels={str(number): "x" for number in range(11)}),
        ),
        (one(labels={"team": "x"}), one(labels=["team"])),
        (one(labels={"team": "x"}), one(labels={"": "x"})),
        (one(labels={"team": "x*"}), one(labels={"team": "[x]"})),
    ],
)
def test_selector_is_taken_up_to_its_bounds(right: Any, wrong: Any) -> None:
    counts = []
    for raw in (right, wrong):
        faults = Faults()
        read_selectors(raw, faults)
        counts.append(faults.count)
    assert counts == [0, 1]


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (["team/app"], ["team/app:"]),
        (["**:v1", "team/*:*-debug"], ["**:v1", "team/*:a/b"]),
        (["a"] * 100, ["a"] * 101),
    ],
)
def test_exclusions_are_taken_up_to_their_bounds(right: list[str], wrong: list[str]) -> None:
    taken_faults, refused_faults = Faults(), Faults()
    assert read_exclusions(right, taken_faults) == tuple(right)
    assert read_exclusions(wrong, refused_faults) == ()
    assert (taken_faults.count, refused_faults.count) == (0, 1)


def test_nothing_is_selected_where_nothing_is_said() -> None:
    faults = Faults()
    assert (read_selectors(MISSING, faults), read_exclusions(MISSING, faults)) == ((), ())
    assert not faults.count


NAMES = st.from_regex(r"[a-z0-9]{1,8}(/[a-z0-9*]{1,8}){0,2}", fullmatch=True)
SELECTORS = st.fixed_dictionaries(
    {"repositories": st.lists(st.sampled_from(["team/app", "team/*", "**"]), min_size=1, max_size=3)},
    optional={
        "tags": st.lists(st.sampled_from(["v*", "latest", "?"]), min_size=1, max_size=3),
        "tagsMatching": st.sampled_from([r"v\d+", "a|b"]),
        "versions": st.sampled_from([">=1", "1.x || 2.x"]),
        "updatedSince": st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)).map(  # noqa: DTZ001
            lambda at: at.strftime("%Y-%m-%dT%H:%M:%SZ")
        ),
        "annotations": st.dictionaries(NAMES, st.sampled_from(["x", "y*"]), min_size=1, max_size=3),
        "labels": st.dictionaries(NAMES, st.sampled_from(["x", "y*"]), min_size=1, max_size=3),
        "newest": st.integers(1, 5000),
    },
)


@given(SELECTORS)
def test_selector_comes_back_from_what_it_is_written_as(raw: dict[str, Any]) -> None:
    faults = Faults()
    (selector,) = read_selectors([raw], faults)
    assert not faults.count, faults.told
    assert selector.to_json() == raw
    assert Selector.from_json(selector.to_json()) == selector
