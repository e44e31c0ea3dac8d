"""Signatures by people: how one is kept, and that what is kept is read strictly."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from airgap.cosigning import MAX_SIGNATURE_BYTES, KeptSignature
from airgap.errors import Code, UntrustedInputError
from tests.bundles import default_key

KEPT = KeptSignature(
    keyid=default_key().keyid, signature=b"signature", by="ada", at=datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
)


def test_kept_signature_is_read_as_it_was_written() -> None:
    assert KeptSignature.from_bytes(KEPT.to_bytes()) == KEPT


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"schema": 2}, Code.NEWER_FORMAT),
        ({"keyid": "x"}, Code.ENVELOPE_MALFORMED),
        ({"sig": "no base64"}, Code.ENVELOPE_MALFORMED),
        ({"sig": ""}, Code.ENVELOPE_MALFORMED),
        ({"by": "a\nb"}, Code.ENVELOPE_MALFORMED),
        ({"at": "today"}, Code.ENVELOPE_MALFORMED),
        ({"more": 1}, Code.ENVELOPE_MALFORMED),
        ({"by": "x" * MAX_SIGNATURE_BYTES}, Code.TOO_LARGE),
    ],
    ids=str,
)
def test_what_is_no_kept_signature_is_refused(change: dict[str, Any], code: Code) -> None:
    raw = json.dumps(json.loads(KEPT.to_bytes()) | change).encode()
    with pytest.raises(UntrustedInputError) as caught:
        KeptSignature.from_bytes(raw)
    assert caught.value.code is code
