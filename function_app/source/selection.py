"""Selections: which artifacts of a registry an order means that does not name each of them.

A selector takes the tags for which all holds that it says; what several selectors take is put together, and
no selector takes what an exclusion covers. Repositories are named by the patterns of
:mod:`airgap.repositories`, as in the trust policy. Whatever a caller may write is matched in linear time:
regular expressions by RE2, which has no backtracking (https://github.com/google/re2/wiki/WhyRE2).

Pure: what a registry lists comes in, what is taken goes out. Neither that nor the request is looked up here.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any, Self

from airgap.fields import format_time, parse_time
from airgap.repositories import PATTERN, covers
from function_app.http.faults import MISSING, Faults, Path
from function_app.oci import TagState

_Check = tuple[Callable[[Any], bool], str]
"""Whether a value is right, and what is wanted, in words."""

MAX_SELECTORS = 20
MAX_EXCLUSIONS = 100
MAX_NEWEST = 5000

_MAX_CHARACTERS = 256
_MAX_TEXTS = 10
_OF_ANOTHER = re.compile(r"sha256-[0-9a-f]{64}(?:\..*)?")
"""Tags under which what belongs to an artifact is kept: ``referrers`` says whether it goes along.

OCI distribution-spec 1.1 §Referrers Tag Schema; cosign's SIGNATURE_SPEC.
"""

_RE2_BYTES = 1024 * 1024
"""RE2's own bound on what a compiled expression may take."""

MEMBERS = (
    *("repositories", "tags", "tagsMatching", "versions"),
    *("updatedSince", "annotations", "labels", "newest"),
)
_SELECTOR_IN_WORDS = f"an object with repositories and any of {', '.join(MEMBERS[1:])}"
_PATTERN_IN_WORDS = (
    "a repository, in which a segment may be * for any one segment, and the last may be ** for any number"
)
_GLOB_IN_WORDS = "a tag of 1 to 128 characters, in which * stands for any characters and ? for any one"
_REGEX_IN_WORDS = "a regular expression in RE2's syntax, of 1 to 256 characters, that a whole tag matches"
_VERSIONS_IN_WORDS = "a range of versions as npm writes them, such as >=1.2.0 <2.0.0"
_TIME_IN_WORDS = "a time in UTC such as 2026-01-31T08:00:00Z"
_TEXTS_IN_WORDS = "an object of 1 to 10 names, each with the text, or a pattern of it with * and ?"
_EXCLUSION_IN_WORDS = (
    "a repository or a pattern of some, and after a colon, if not all tags, a pattern of tags"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """A selector: one member of ``select`` in a request.

    Args:
        repositories: patterns of which one must cover the repository.
        tags: patterns with ``*`` and ``?`` of which one must match the whole tag; any tag, if empty.
        tags_matching: a regular expression in RE2's syntax that the whole tag must match.
        versions: a range as npm writes them; the tag must be a version in it, with or without a ``v``.
        updated_since: the time (aware) at or after which the tag was last written, by the registry's clock.
        annotations: the text, or a pattern of it, that each annotation of the manifest or index must have, by
            name.
        labels: the same for labels of the image's configuration; for an index, of one of its images.
        newest: how many tags of each repository are taken at most, those written to last.
    """

    repositories: tuple[str, ...]
    tags: tuple[str, ...] = ()
    tags_matching: str | None = None
    versions: str | None = None
    updated_since: datetime | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    newest: int | None = None

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_json` wrote; it refuses nothing, since the request was checked before."""
        since = raw.get("updatedSince")
        return cls(
            repositories=tuple(raw["repositories"]),
            tags=tuple(raw.get("tags", ())),
            tags_matching=raw.get("tagsMatching"),
            versions=raw.get("versions"),
            updated_since=None if since is None else parse_time(since),
            annotations=raw.get("annotations", {}),
            labels=raw.get("labels", {}),
            newest=raw.get("newest"),
        )

    def to_json(self) -> dict[str, Any]:
        """The selector as a request has it; what it does not say is left out."""
        since = self.updated_since
        said = {
            "repositories": list(self.repositories),
            "tags": list(self.tags),
            "tagsMatching": self.tags_matching,
            "versions": self.versions,
            "updatedSince": None if since is None else format_time(since),
            "annotations": dict(self.annotations),
            "labels": dict(self.labels),
            "newest": self.newest,
        }
        return {name: value for name, value in said.items() if value}

    @property
    def asks_for_texts(self) -> bool:
        """Whether manifests have to be read to know what the selector takes."""
        return bool(self.annotations or self.labels)

    @property
    def names_its_repositories(self) -> bool:
        """Whether the selector names each repository it means, so that none has to be listed."""
        return not any("*" in pattern for pattern in self.repositories)

    def covers(self, repository: str) -> bool:
        """Whether the selector takes anything of this repository at all."""
        return any(covers(pattern, repository) for pattern in self.repositories)

    def matching(self, tags: Iterable[tuple[str, TagState]]) -> list[tuple[str, TagState]]:
        """The tags that the selector takes as far as names and times tell, those written to last first.

        A tag by which an artifact belongs to another one is never taken. Texts and ``newest`` are not looked
        at: texts stand in manifests, which are worth a request each only for what is left by then.
        """
        tests = self._tests()
        found = [
            (name, state)
            for name, state in tags
            if not _OF_ANOTHER.fullmatch(name) and all(test(name, state) for test in tests)
        ]
        return sorted(found, key=lambda one: (-written_at(one[1]).timestamp(), one[0]))

    def _tests(self) -> list[Callable[[str, TagState], bool]]:
        tests: list[Callable[[str, TagState], bool]] = []
        if self.tags:
            tests.append(lambda name, _: any(fnmatchcase(name, glob) for glob in self.tags))
        if self.tags_matching is not None:
            matches = _expression(self.tags_matching)
            tests.append(lambda name, _: matches(name))
        if self.versions is not None:
            is_within = _range(self.versions)
            tests.append(lambda name, _: is_within(name))
        if (since := self.updated_since) is not None:
            tests.append(lambda _, state: written_at(state) >= since)
        return tests


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclusion:
    """An exclusion: tags that no selector takes, of the repositories that a pattern covers."""

    repositories: str
    tags: str = "*"

    @classmethod
    def read(cls, text: str) -> Self:
        """Read an exclusion of a request, such as ``team/app:*-debug``."""
        repositories, _, tags = text.partition(":")
        return cls(repositories=repositories, tags=tags or "*")

    def excludes(self, repository: str, tag: str) -> bool:
        """Whether the exclusion covers the tag of that repository."""
        return covers(self.repositories, repository) and fnmatchcase(tag, self.tags)


def written_at(state: TagState) -> datetime:
    """The time of the last write to a tag, aware, in UTC.

    Raises:
        ValueError: what the registry says is no time.
    """
    # ACR tells tenths of microseconds, which the standard library does not read.
    whole, _, rest = state.written_at.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{whole}.{(rest[:6] or '0'):0<6}").replace(tzinfo=UTC)


def has_texts(wanted: Mapping[str, str], given: Any) -> bool:
    """Whether the given texts have each wanted one; anything but an object of texts has none."""
    texts = given if isinstance(given, Mapping) else {}
    return all(
        isinstance(text := texts.get(name), str) and fnmatchcase(text, pattern)
        for name, pattern in wanted.items()
    )


# --- reading a request ------------------------------------------------------------------------------------


def read_selectors(raw: Any, faults: Faults) -> tuple[Selector, ...]:
    """Read the member ``select`` of a request; every fault of it is added to ``faults``."""
    if raw is MISSING:
        return ()
    if type(raw) is not list or not 1 <= len(raw) <= MAX_SELECTORS:
        faults.add("body", ("select",), raw, f"an array of 1 to {MAX_SELECTORS} selectors")
        return ()
    return tuple(_read_selector(one, ("select", index), faults) for index, one in enumerate(raw))


def read_exclusions(raw: Any, faults: Faults) -> tuple[str, ...]:
    """Read the member ``exclude`` of a request; every fault of it is added to ``faults``."""
    if raw is MISSING:
        return ()
    before = faults.count
    _check_list(raw, ("exclude",), faults, (_is_exclusion, _EXCLUSION_IN_WORDS), MAX_EXCLUSIONS)
    return () if faults.count > before else tuple(raw)


def _read_selector(raw: Any, path: Path, faults: Faults) -> Selector:
    nothing = Selector(repositories=())
    if type(raw) is not dict:
        faults.add("body", path, raw, _SELECTOR_IN_WORDS)
        return nothing
    before = faults.count
    for name, value in raw.items():
        where = (*path, name)
        if name in _LISTS:
            _check_list(value, where, faults, _LISTS[name])
        elif name not in _VALUES:
            faults.add("body", where, value, _SELECTOR_IN_WORDS)
        elif not _VALUES[name][0](value):
            faults.add("body", where, value, _VALUES[name][1])
    if "repositories" not in raw:
        _check_list(MISSING, (*path, "repositories"), faults, _LISTS["repositories"])
    return nothing if faults.count > before else Selector.from_json(raw)


def _check_list(raw: Any, path: Path, faults: Faults, check: _Check, most: int = 50) -> None:
    """Note what is wrong with an array, or with each of its elements."""
    is_right, wanted = check
    if type(raw) is not list or not 1 <= len(raw) <= most:
        faults.add("body", path, raw, f"an array of 1 to {most}: {wanted}")
        return
    for index, one in enumerate(raw):
        if not is_right(one):
            faults.add("body", (*path, index), one, wanted)


def _is_text(raw: Any, most: int = _MAX_CHARACTERS) -> bool:
    return type(raw) is str and 1 <= len(raw) <= most and raw.isprintable()


def _is_pattern(raw: Any) -> bool:
    return _is_text(raw) and PATTERN.fullmatch(raw) is not None


def _is_glob(raw: Any) -> bool:
    # Brackets are fnmatch's own, and no tag has any.
    return _is_text(raw, 128) and raw.isascii() and not set(raw) & set("[]/:@ ")


def _is_exclusion(raw: Any) -> bool:
    if type(raw) is not str:
        return False
    repositories, colon, tags = raw.partition(":")
    return _is_pattern(repositories) and (not colon or _is_glob(tags))


def _reads(read: Callable[[str], Any], raw: str) -> bool:
    try:
        read(raw)
    except ValueError:
        return False
    return True


def _is_texts(raw: Any) -> bool:
    return (
        type(raw) is dict
        and 1 <= len(raw) <= _MAX_TEXTS
        and all(_is_text(name) and _is_text(text) and not set(text) & set("[]") for name, text in raw.items())
    )


def _is_count(raw: Any) -> bool:
    return type(raw) is int and 1 <= raw <= MAX_NEWEST


_LISTS: Mapping[str, _Check] = {
    "repositories": (_is_pattern, _PATTERN_IN_WORDS),
    "tags": (_is_glob, _GLOB_IN_WORDS),
}
_VALUES: Mapping[str, _Check] = {
    "tagsMatching": (lambda raw: _is_text(raw) and _reads(_expression, raw), _REGEX_IN_WORDS),
    "versions": (lambda raw: _is_text(raw) and _reads(_range, raw), _VERSIONS_IN_WORDS),
    "updatedSince": (lambda raw: type(raw) is str and _reads(parse_time, raw), _TIME_IN_WORDS),
    "annotations": (_is_texts, _TEXTS_IN_WORDS),
    "labels": (_is_texts, _TEXTS_IN_WORDS),
    "newest": (_is_count, f"a whole number from 1 to {MAX_NEWEST}"),
}


# --- what is matched by libraries, which most requests do without ------------------------------------------


def _expression(pattern: str) -> Callable[[str], bool]:
    """Whether a text matches the expression as a whole; ``ValueError`` if it is none."""
    import re2  # noqa: PLC0415 - see above

    options = re2.Options()
    options.max_mem = _RE2_BYTES
    options.log_errors = False
    try:
        compiled = re2.compile(pattern, options)
    except re2.error as error:
        raise ValueError(pattern) from error
    return lambda text: compiled.fullmatch(text) is not None


def _range(text: str) -> Callable[[str], bool]:
    """Whether a tag is a version within the range; ``ValueError`` if that is none."""
    import semantic_version  # noqa: PLC0415 - see above

    wanted = semantic_version.NpmSpec(text)

    def is_within(tag: str) -> bool:
        try:
            return bool(wanted.match(semantic_version.Version(tag.removeprefix("v"))))
        except ValueError:
            return False

    return is_within


def taken(
    selectors: Sequence[Selector], exclusions: Sequence[Exclusion], repository: str
) -> Sequence[Selector]:
    """The selectors that may take something of a repository; none where all of it is excluded."""
    if any(one.tags == "*" and covers(one.repositories, repository) for one in exclusions):
        return ()
    return [selector for selector in selectors if selector.covers(repository)]
