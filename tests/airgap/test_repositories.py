"""Which repositories a pattern stands for; what is no pattern is refused with the policy."""

import pytest

from airgap.repositories import PATTERN, covers


@pytest.mark.parametrize(
    ("pattern", "inside", "outside"),
    [
        ("team/app", ["team/app"], ["team", "team/app/web", "team/apps", "other/team/app", "team/ap"]),
        ("team/*", ["team/app", "team/a.b-c__d"], ["team", "team/app/web", "other/app"]),
        ("*", ["app"], ["team/app"]),
        ("*/app", ["team/app", "other/app"], ["app", "a/b/app", "team/web"]),
        ("team/*/web", ["team/app/web"], ["team/web", "team/app/api", "team/a/b/web"]),
        ("team/**", ["team/app", "team/app/web/ui"], ["team", "teams/app", "other/team/app"]),
        ("team/*/**", ["team/app/web", "team/a/b/c"], ["team", "team/app"]),
        ("**", ["app", "team/app/web"], []),
    ],
)
def test_pattern_stands_for_whole_segments(pattern: str, inside: list[str], outside: list[str]) -> None:
    assert PATTERN.fullmatch(pattern)
    assert [name for name in inside if not covers(pattern, name)] == []
    assert [name for name in outside if covers(pattern, name)] == []


@pytest.mark.parametrize(
    "text",
    ["", "/", "team/", "/app", "team//app", "Team/app", "app-*", "*app", "**/app", "a/**/b", "***", "../a"],
)
def test_what_has_other_wildcards_is_no_pattern(text: str) -> None:
    assert not PATTERN.fullmatch(text)
