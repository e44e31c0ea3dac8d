import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_cloud.registry.addresses import MAX_NAME_CHARS, parse_target
from local_cloud.registry.errors import RegistryError

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("path", "kind", "name", "rest"),
    [
        ("/v2", "base", "", ""),
        ("/v2/", "base", "", ""),
        ("/v2/_catalog", "catalog", "", ""),
        ("/v2/a/manifests/latest", "manifest", "a", "latest"),
        (f"/v2/a/b-c/manifests/{DIGEST}", "manifest", "a/b-c", DIGEST),
        (f"/v2/a/blobs/{DIGEST}", "blob", "a", DIGEST),
        ("/v2/a/blobs/uploads/", "uploads", "a", ""),
        ("/v2/a/blobs/uploads/1234-ab", "upload", "a", "1234-ab"),
        ("/v2/a/tags/list", "tags", "a", ""),
        (f"/v2/a/referrers/{DIGEST}", "referrers", "a", DIGEST),
        ("/v2/manifests/blobs/tags/list", "tags", "manifests/blobs", ""),
        ("/v2/a/blobs/uploads/manifests/x", "manifest", "a/blobs/uploads", "x"),
        ("/v2/tags/list/tags/list", "tags", "tags/list", ""),
        ("/acr/v1/a/b/_tags/v1", "tag", "a/b", "v1"),
        ("/acr/v1/a/b/_tags", "tag-list", "a/b", ""),
        ("/acr/v1/a/b/_manifests", "manifests", "a/b", ""),
        (f"/acr/v1/a/b/_manifests/{DIGEST}", "manifest-attributes", "a/b", DIGEST),
        ("/acr/v1/a/b", "repository", "a/b", ""),
        ("/acr/v1/_catalog", "own-catalog", "", ""),
    ],
)
def test_addresses(path: str, kind: str, name: str, rest: str) -> None:
    target = parse_target(path)
    assert (target.kind, target.name, target.rest) == (kind, name, rest)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v2/../etc/manifests/1", "NAME_INVALID"),
        ("/v2/a/../b/manifests/1", "NAME_INVALID"),
        ("/v2//manifests/1", "NAME_INVALID"),
        ("/v2/manifests/1", "NAME_INVALID"),
        ("/v2/A/manifests/1", "NAME_INVALID"),
        ("/v2/a\n/manifests/1", "NAME_INVALID"),
        ("/v2/_tags/manifests/1", "NAME_INVALID"),
        ("/v2/a/_manifests/manifests/1", "NAME_INVALID"),
        (f"/v2/{'a' * (MAX_NAME_CHARS + 1)}/manifests/1", "NAME_INVALID"),
        ("/v2/a/manifests/..", "MANIFEST_INVALID"),
        ("/v2/a/manifests/.x", "MANIFEST_INVALID"),
        ("/v2/a/manifests/1\n", "MANIFEST_INVALID"),
        ("/v2/a/manifests/" + "t" * 129, "MANIFEST_INVALID"),
        ("/v2/a/manifests/sha256:abc", "DIGEST_INVALID"),
        ("/v2/a/manifests/md5:" + "a" * 64, "DIGEST_INVALID"),
        ("/v2/a/blobs/sha256:" + "A" * 64, "DIGEST_INVALID"),
        ("/v2/a/blobs/uploads", "DIGEST_INVALID"),
        ("/v2/a/blobs/uploads/..", "BLOB_UPLOAD_UNKNOWN"),
        ("/v2/a/referrers/x", "DIGEST_INVALID"),
        ("/v2/a", "NAME_UNKNOWN"),
        ("/v2/a/tags/other", "NAME_UNKNOWN"),
        ("/v2/_catalog/", "NAME_UNKNOWN"),
        ("/acr/v1/a/../b/_tags/v1", "NAME_UNKNOWN"),
        ("/acr/v1/a/_tags/..", "NAME_UNKNOWN"),
        ("/acr/v1/a/../_tags", "NAME_UNKNOWN"),
        ("/acr/v1/a/_manifests/v1", "DIGEST_INVALID"),
        ("/acr/v1/A/_manifests/v1", "NAME_UNKNOWN"),
        ("/acr/v1/_catalog/", "NAME_UNKNOWN"),
    ],
)
def test_addresses_that_are_refused(path: str, code: str) -> None:
    with pytest.raises(RegistryError) as refused:
        parse_target(path)
    assert refused.value.code == code


_SEGMENTS = st.sampled_from(
    [
        "a",
        "b-c",
        "blobs",
        "uploads",
        "manifests",
        "tags",
        "list",
        "referrers",
        "_catalog",
        "..",
        ".",
        "",
        DIGEST,
    ]
)


@given(
    st.lists(_SEGMENTS | st.text(max_size=4), max_size=7).map(lambda segments: "/v2/" + "/".join(segments))
)
def test_the_store_is_asked_for_what_access_was_decided_on(path: str) -> None:
    try:
        target = parse_target(path)
    except RegistryError:
        return
    assert parse_target(target.path) == target
    assert target.path == path or (path, target.path) == ("/v2", "/v2/")
