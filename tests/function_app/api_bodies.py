"""What orders are asked with: as the OpenAPI document of the source allows it, and as it does not."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

_NAME = st.from_regex(r"[a-z0-9]{1,8}(?:[._-][a-z0-9]{1,8})?", fullmatch=True)
_REPOSITORIES = st.lists(_NAME, min_size=1, max_size=3).map("/".join) | st.just("team/app")
_TAGS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,20}", fullmatch=True) | st.just("v1")
_DIGESTS = st.integers(0, 2**256 - 1).map(lambda number: f"sha256:{number:064x}")
_REFERENCES = st.builds("{}:{}".format, _REPOSITORIES, _TAGS) | st.builds(
    "{}@{}".format, _REPOSITORIES, _DIGESTS
)
_CHANNELS = st.just("prod") | st.from_regex(r"[a-z0-9](?:[a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
_SERVERS = st.just("target.azurecr.io") | st.from_regex(
    r"[a-z0-9]{5,20}\.azurecr\.(?:io|us|cn)", fullmatch=True
)
_WORDS = st.text(min_size=1, max_size=20)
_TEXTS = st.dictionaries(_WORDS, st.from_regex(r"[^\[\]]{1,20}", fullmatch=True), min_size=1, max_size=3)
_PATTERNS = st.sampled_from(["**", "team/*", "team/**", "*/app"]) | _REPOSITORIES
_TIMES = st.datetimes().map(lambda time: f"{time:%Y-%m-%dT%H:%M:%S}Z".rjust(20, "0"))
_SELECTORS = st.fixed_dictionaries(
    {"repositories": st.lists(_PATTERNS, min_size=1, max_size=3)},
    optional={
        "tags": st.lists(st.sampled_from(["v*", "?", "1.*"]) | _TAGS, min_size=1, max_size=3),
        "tagsMatching": st.sampled_from([r"v\d+", "(a|b)+", "["]) | _WORDS,
        "versions": st.sampled_from([">=1.2.0 <2.0.0", "^1", "1.x || 2.x"]) | _WORDS,
        "updatedSince": _TIMES,
        "annotations": _TEXTS,
        "labels": _TEXTS,
        "newest": st.integers(1, 5000),
    },
)
_KINDS = st.sampled_from(["all", "none"]) | st.lists(
    st.from_regex(r"[a-z0-9]{1,9}/[a-z0-9.+-]{1,9}", fullmatch=True), min_size=1, max_size=3, unique=True
)
_TERMS = {
    "expiresInSeconds": st.integers(60, 20 * 366 * 24 * 3600),
    "referrers": _KINDS,
    "dryRun": st.booleans(),
    "onlyMissing": st.booleans(),
}
_NAMED = {"artifacts": st.lists(_REFERENCES, min_size=1, max_size=4, unique=True)}
_SELECTED = {"select": st.lists(_SELECTORS, min_size=1, max_size=3)}
_WHOM = {"channel": _CHANNELS, "audience": _SERVERS | st.lists(_SERVERS, min_size=1, max_size=3)}
_EXCLUDE = {"exclude": st.lists(st.just("**:*-debug") | _PATTERNS | _WORDS, min_size=1, max_size=3)}


def orders(
    required: dict[str, st.SearchStrategy[Any]] | None = None,
    optional: dict[str, st.SearchStrategy[Any]] | None = None,
) -> st.SearchStrategy[dict[str, Any]]:
    """Orders as the document allows them: named, selected or both; with these members more."""
    must: dict[str, st.SearchStrategy[Any]] = {**_WHOM, **(required or {})}
    may: dict[str, st.SearchStrategy[Any]] = {**_TERMS, **(optional or {})}
    return st.fixed_dictionaries({**must, **_NAMED}, optional=may) | st.fixed_dictionaries(
        {**must, **_SELECTED}, optional={**may, **_NAMED, **_EXCLUDE}
    )


def standing_orders() -> st.SearchStrategy[dict[str, Any]]:
    """The same of standing orders; whether a schedule is one, the document does not say."""
    schedules = st.sampled_from(["R/2026-12-01T02:00:00Z/P1D", "R/2026-12-01T02:00:00Z/PT5M"]) | st.text()
    labels = st.dictionaries(_WORDS, _WORDS, max_size=3)
    return orders({"schedule": schedules}, {"labels": labels, "paused": st.booleans()})


_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from(["", "ALL", "prod\n", "\ud800", "team/app:v1", -1, 0, 2**63, 2**64])
)
_JUNK = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)


@st.composite
def spoiled(
    draw: st.DrawFn, bodies: st.SearchStrategy[dict[str, Any]], is_allowed: Callable[[Any], bool]
) -> Any:
    """A body with one member that is wrong, too much or missing; or something else altogether."""
    body: Any = deepcopy(draw(bodies))
    wrong = draw(_JUNK)
    ways = ["member", "more", "less", "inside"] if isinstance(body, dict) else []
    match draw(st.sampled_from([*ways, "other"])):
        case "member":
            body[draw(st.sampled_from(sorted(body)))] = wrong
        case "more":
            body[draw(st.text())] = wrong
        case "less":
            del body[draw(st.sampled_from(sorted(body)))]
        case "inside":
            lists = [value for value in body.values() if isinstance(value, list)]
            assume(lists)
            draw(st.sampled_from(lists)).insert(0, wrong)
        case _:
            body = wrong
    assume(not is_allowed(body))
    return body
