"""What an envelope may cost, and how it may be written, before anybody has vouched for it."""

import base64
import json
from typing import Any

import pytest

from airgap.envelope import MAX_ENVELOPE_BYTES, MAX_SIGNATURES, Envelope
from airgap.errors import Code, UntrustedInputError
from airgap.statement import MAX_STATEMENT_BYTES, PAYLOAD_TYPE


def envelope(signatures: int = 1, **more: Any) -> bytes:
    return json.dumps(
        {
            "payloadType": PAYLOAD_TYPE,
            "payload": base64.b64encode(b"payload").decode(),
            "signatures": [
                {"keyid": f"{number:064x}", "sig": base64.b64encode(b"sig").decode()}
                for number in range(signatures)
            ],
            **more,
        }
    ).encode()


def refuses(raw: bytes, code: Code = Code.ENVELOPE_MALFORMED, *, saying: str | None = None) -> None:
    with pytest.raises(UntrustedInputError, match=saying) as refusal:
        Envelope.from_bytes(raw)
    assert refusal.value.code is code


def test_largest_envelope_holds_the_largest_statement_and_a_mebibyte_of_signatures() -> None:
    assert (MAX_STATEMENT_BYTES, MAX_ENVELOPE_BYTES) == (16_777_216, 23_418_197)
    assert Envelope.from_bytes(envelope().ljust(MAX_ENVELOPE_BYTES)).payload == b"payload"
    refuses(envelope().ljust(MAX_ENVELOPE_BYTES + 1), Code.TOO_LARGE)
    refuses(b"," * (MAX_ENVELOPE_BYTES + 1), Code.TOO_LARGE)
    refuses(b"," * MAX_ENVELOPE_BYTES, saying="more objects")


def test_envelope_has_one_to_sixteen_signatures() -> None:
    assert MAX_SIGNATURES == 16
    assert [len(Envelope.from_bytes(envelope(count)).signatures) for count in (1, 16)] == [1, 16]
    refuses(envelope(17))
    refuses(envelope(0), saying="signatures")


def test_envelope_is_one_line_of_text() -> None:
    assert Envelope.from_bytes(envelope()).to_bytes().count(b"\n") == 1
    assert Envelope.from_bytes(envelope()).to_bytes().endswith(b"}\n")


def test_nobody_signs_an_envelope_without_a_key() -> None:
    with pytest.raises(ValueError, match="at least one signer"):
        Envelope.sign(b"payload", [])


@pytest.mark.parametrize(
    ("text", "is_costly"),
    [
        ("[" * 18, False),
        ("{" * 18, False),
        ("[{" * 9, False),
        ("," * 34, False),
        ("[" * 19, True),
        ("{" * 19, True),
        ("[{" * 9 + "[", True),
        ("," * 35, True),
        ("[" * 18 + "," * 35, True),
        ("{" * 19 + "," * 34, True),
    ],
)
def test_more_brackets_or_commas_than_any_envelope_has_are_refused_unparsed(
    text: str, is_costly: object
) -> None:
    """Sixteen signatures: objects in an array in an object; of two members each, in an object of three."""
    refuses(text.encode(), saying="more objects" if is_costly else "(?s)^(?!.*more objects)")


@pytest.mark.parametrize("character", ["\u00e9", "\u0100", "\\u0100", "\\ud83d", "\\u1234"])
def test_character_that_would_make_the_text_several_times_as_long_is_refused_unparsed(character: str) -> None:
    refuses(f'{{"payload":"{character}"}}'.encode(), saying="not ASCII")


def test_escaped_latin_1_is_read_and_judged() -> None:
    refuses(rb'{"payload":"\u00e9"}', saying="(?s)^(?!.*not ASCII)")


@pytest.mark.parametrize(
    "payload", [None, 7, "", [], True, "c", "cGF5bG9hZA", "cGF5bG9hZA==\n", "cGF5 bG9hZA=="]
)
def test_payload_that_is_no_base64_is_refused(payload: object) -> None:
    refuses(envelope(payload=payload), saying="not a base64 string")


@pytest.mark.parametrize("payload", ["cGF5bG9hZB==", "cGF5bG9hZA==="])
def test_base64_in_another_than_its_one_form_is_refused(payload: str) -> None:
    refuses(envelope(payload=payload), saying="base64")
