from hypothesis import given, settings
from hypothesis import strategies as st

from airgap.parts import MAX_PART_SIZE_BYTES, MAX_PARTS_PER_BLOB, MIN_PART_SIZE_BYTES
from function_app.part_groups import (
    BYTES_PER_GROUP,
    PARTS_PER_GROUP,
    PartedBlob,
    count_groups,
    find_group,
    parted,
)

BLOBS = st.lists(
    st.builds(
        PartedBlob,
        parts=st.integers(0, 200),
        part_size_bytes=st.sampled_from([MIN_PART_SIZE_BYTES, 200 * 1024**2, MAX_PART_SIZE_BYTES]),
    ),
    max_size=5,
)


@settings(deadline=None)
@given(BLOBS)
def test_groups_cover_each_part_of_each_blob_once_and_in_order(blobs: list[PartedBlob]) -> None:
    groups = [find_group(blobs, number) for number in range(count_groups(blobs))]
    covered = [
        (group.blob, part) for group in groups for part in range(group.first, group.first + group.count)
    ]
    assert covered == [(index, part + 1) for index, blob in enumerate(blobs) for part in range(blob.parts)]


@settings(deadline=None)
@given(st.integers(1, MAX_PARTS_PER_BLOB), st.integers(MIN_PART_SIZE_BYTES, MAX_PART_SIZE_BYTES))
def test_activity_reads_at_most_two_gib_unless_one_part_is_larger(parts: int, part_size_bytes: int) -> None:
    blob = parted(parts * part_size_bytes, part_size_bytes)
    largest = max(find_group([blob], number).count for number in {0, blob.groups - 1})
    assert largest <= PARTS_PER_GROUP
    assert largest == 1 or largest * part_size_bytes <= BYTES_PER_GROUP
