"""What the attacks of this folder have found so far, kept by name."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from airgap.errors import Code, UntrustedInputError
from airgap.fields import parse_time
from airgap.receipt import Receipt
from airgap.strict_json import dump_canonical, load_strict
from tests.vectors.generate import refused_receipt


def changed_receipt(**changes: Any) -> bytes:
    statement = json.loads(refused_receipt().to_bytes())
    statement["predicate"].update(changes)
    return dump_canonical(statement)


@pytest.mark.parametrize("verdict", [[], {}, None, 1, "Refused"])
def test_verdict_that_is_no_text(verdict: object) -> None:
    """It was a ``TypeError``: a list has no hash."""
    with pytest.raises(UntrustedInputError) as refusal:
        Receipt.from_bytes(changed_receipt(verdict=verdict))
    assert refusal.value.code is Code.RECEIPT_MALFORMED


@pytest.mark.parametrize(("start", "end"), [(b"[", b"]"), (b'{"a":', b"}")], ids=["arrays", "objects"])
def test_surrogate_at_a_depth_that_can_be_read_but_not_written(start: bytes, end: bytes) -> None:
    """It was a ``RecursionError``: the check for lone surrogates nests a few calls deeper than the parser."""
    for depth in range(1, sys.getrecursionlimit() + 50):
        with pytest.raises(UntrustedInputError) as refusal:
            load_strict(
                start * depth + rb'"\ud800"' + end * depth, max_bytes=10**5, code=Code.MANIFEST_MALFORMED
            )
        assert refusal.value.code is Code.MANIFEST_MALFORMED


def test_year_with_leading_zeros_survives_writing() -> None:
    """It was written as the year ``1``, which no reader accepts."""
    receipt = Receipt.from_bytes(changed_receipt(decidedAt="0001-01-01T00:00:00Z"))
    assert Receipt.from_bytes(receipt.to_bytes()) == receipt


def test_digits_of_other_scripts_are_no_time() -> None:
    """They were taken for ours."""
    with pytest.raises(ValueError, match="YYYY"):
        parse_time("\u0662\u0660\u0662\u0666-01-31T08:00:00Z")
