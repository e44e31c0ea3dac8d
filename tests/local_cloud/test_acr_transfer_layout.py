"""The emulator's tar, read as an enemy would write it."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable

import pytest

from local_cloud.acr_transfer import layout
from local_cloud.acr_transfer.content import contents_of
from local_cloud.acr_transfer.errors import RunError
from local_cloud.acr_transfer.layout import Descriptor, LayoutReader, digest_of

LIMIT = 100_000
CONTENT = b"layer content"
BLOB = Descriptor("application/octet-stream", digest_of(CONTENT), len(CONTENT))


def good_tar() -> bytes:
    pieces = [
        *layout.opening(),
        *layout.blob_member(BLOB, [CONTENT]),
        *layout.closing([("app:v1", BLOB)]),
    ]
    return b"".join(pieces)


def reader(content: bytes) -> LayoutReader:
    return LayoutReader(io.BytesIO(content), max_blob_bytes=LIMIT)


def with_member(change: Callable[[tarfile.TarInfo], None], content: bytes = b"") -> bytes:
    member = tarfile.TarInfo("index.json")
    member.size = len(content)
    change(member)
    added = member.tobuf(tarfile.GNU_FORMAT) + content + layout.padding(len(content))
    return b"".join(layout.opening()) + added + bytes(1024)


def test_what_is_written_is_read() -> None:
    found = reader(good_tar())
    assert found.artifacts() == [("app:v1", BLOB)]
    assert b"".join(found.blob(BLOB, lambda: None)) == CONTENT


def test_tarfile_and_oci_tools_see_an_image_layout_marked_as_the_emulators() -> None:
    with tarfile.open(fileobj=io.BytesIO(good_tar())) as tar:
        assert tar.getnames() == [
            "FORMAT.json",
            "oci-layout",
            f"blobs/sha256/{BLOB.digest[7:]}",
            "index.json",
        ]
        marker, index = tar.extractfile("FORMAT.json"), tar.extractfile("index.json")
        assert marker is not None
        assert index is not None
        assert json.load(marker)["format"] == "acr-transfer-emulator"
        assert json.load(index)["manifests"][0]["digest"] == BLOB.digest


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (with_member(lambda member: setattr(member, "name", "../../etc/passwd")), "does not belong"),
        (with_member(lambda member: setattr(member, "name", "/etc/passwd")), "does not belong"),
        (with_member(lambda member: setattr(member, "name", "blobs/sha256/../../x")), "does not belong"),
        (with_member(lambda member: setattr(member, "type", tarfile.SYMTYPE)), "not a plain file"),
        (with_member(lambda member: setattr(member, "type", tarfile.LNKTYPE)), "not a plain file"),
        (with_member(lambda member: setattr(member, "type", tarfile.XHDTYPE)), "not a plain file"),
        (with_member(lambda member: setattr(member, "type", tarfile.GNUTYPE_LONGNAME)), "not a plain file"),
        (with_member(lambda member: setattr(member, "type", tarfile.DIRTYPE)), "not a plain file"),
        (with_member(lambda member: setattr(member, "size", 10**12)), "are allowed"),
        (with_member(lambda member: setattr(member, "size", -1)), "are allowed"),
        (with_member(lambda member: setattr(member, "size", 9000)), "truncated"),
        (with_member(lambda member: setattr(member, "name", "oci-layout")), "twice"),
        (good_tar() + b"more", "does not end"),
        (good_tar()[:-1], "does not end"),
        (good_tar()[:-1024], "not a tar"),
        (good_tar()[:700], "truncated"),
        (b"\0" + good_tar()[1:], "not a tar"),
    ],
    ids=[
        *("traversal", "absolute", "traversal-in-blobs", "symlink", "hard-link", "pax-header", "long-name"),
        *("folder", "terabyte", "negative-size", "size-beyond-end", "twice", "trailing-bytes", "short-end"),
        *("no-end", "cut-in-member", "bad-header"),
    ],
)
def test_a_tar_that_is_not_exactly_a_transfer_blob_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(RunError, match=message):
        reader(content)


def test_a_blob_over_the_limit_is_refused_before_it_is_read() -> None:
    big = Descriptor("", "sha256:" + "0" * 64, LIMIT + 1)
    tar = b"".join([*layout.opening(), *layout.blob_member(big, [bytes(big.size)]), *layout.closing([])])
    with pytest.raises(RunError, match="are allowed"):
        reader(tar)


def test_another_tools_image_layout_is_not_taken_for_a_transfer_blob() -> None:
    other = good_tar().replace(b"acr-transfer-emulator", b"some-other-tool-entire")
    with pytest.raises(RunError):
        reader(other)


def test_every_flipped_byte_of_a_blob_is_noticed() -> None:
    start = good_tar().index(CONTENT)
    for position in range(start, start + len(CONTENT)):
        tar = bytearray(good_tar())
        tar[position] ^= 0xFF
        with pytest.raises(RunError, match="damaged"):
            list(reader(bytes(tar)).blob(BLOB, lambda: None))


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Descriptor("", BLOB.digest, BLOB.size + 1), "bytes in the transfer blob"),
        (Descriptor("", "sha256:" + "0" * 64, BLOB.size), "lacks"),
    ],
)
def test_content_that_is_not_what_was_expected_is_refused(wanted: Descriptor, message: str) -> None:
    with pytest.raises(RunError, match=message):
        list(reader(good_tar()).blob(wanted, lambda: None))


@pytest.mark.parametrize(
    "index",
    [
        b"[]",
        b"{}",
        b'{"manifests": [{}]}',
        b'{"manifests": [{"annotations": {"org.opencontainers.image.ref.name": "app:v1"}}]}',
        b"[" * 100_000,
    ],
)
def test_a_malformed_index_is_refused(index: bytes) -> None:
    member = layout.header("index.json", len(index)) + index + layout.padding(len(index))
    found = reader(b"".join(layout.opening()) + member + bytes(1024))
    with pytest.raises(RunError):
        found.artifacts()


def manifest_of(fields: object) -> tuple[Descriptor, Callable[[Descriptor], bytes]]:
    content = json.dumps(fields).encode()
    return Descriptor("application/json", digest_of(content), len(content)), lambda _: content


@pytest.mark.parametrize(
    "fields",
    [
        [],
        {"layers": "all"},
        {"layers": [{"digest": "sha256:0", "size": 1, "mediaType": "x"}]},
        {"layers": [{"digest": BLOB.digest, "size": -1, "mediaType": "x"}]},
        {"layers": [{"digest": BLOB.digest, "size": True, "mediaType": "x"}]},
        {"config": 7},
    ],
)
def test_a_malformed_manifest_is_refused(fields: object) -> None:
    top, read = manifest_of(fields)
    with pytest.raises(RunError):
        contents_of(top, read)


def test_an_index_within_an_index_within_an_index_without_end_is_refused() -> None:
    def read(each: Descriptor) -> bytes:
        below = hashlib.sha256(each.digest.encode()).hexdigest()
        child = {"mediaType": "x", "digest": f"sha256:{below}", "size": 1}
        return json.dumps({"manifests": [child]}).encode()

    with pytest.raises(RunError, match="too deep"):
        contents_of(BLOB, read)
