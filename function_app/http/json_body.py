"""The body of a request as one JSON object, read strictly; anything else is named in the refusal."""

import codecs
from typing import Any

import msgspec

from airgap.errors import Code, UntrustedInputError
from airgap.strict_json import load_strict
from function_app.http.faults import Faults, describe_value

_DOCUMENT_IN_WORDS = "a JSON document in UTF-8, without a byte-order mark"
_BODY_IN_WORDS = "one JSON object in UTF-8, without a byte-order mark"


def read_object(body: bytes, faults: Faults, *, max_bytes: int) -> dict[str, Any]:
    """The members of a body that is a JSON object; any other is refused, with the faults noted so far.

    Raises:
        RequestRefusedError: ``REQUEST_INVALID``: it is no object, or larger than ``max_bytes``, which makes
            it 413.
    """
    if len(body) > max_bytes:
        faults.add_words("body", (), f"{len(body)} bytes", f"a JSON object of at most {max_bytes} bytes")
        raise faults.refusal(is_too_large=True)
    if (given := _name_no_json(body)) is None:
        try:
            raw = load_strict(body, max_bytes=max_bytes, code=Code.MANIFEST_MALFORMED)
        except UntrustedInputError as error:
            given = error.detail
        else:
            if type(raw) is dict:
                return raw
            given = describe_value(raw)
    faults.add_words("body", (), given, _BODY_IN_WORDS)
    raise faults.refusal()


def require_model(raw: Any, model: type[msgspec.Struct], faults: Faults) -> None:
    """Refuse a body for which faults were noted, or that the OpenAPI document would not take.

    The reader of a body has words for the faults that it finds. A fault that only the model finds is told in
    the model's words.

    Raises:
        RequestRefusedError: ``REQUEST_INVALID``, with what was noted, or what the model says.
    """
    faults.refuse_any()
    try:
        msgspec.convert(raw, model)
    except msgspec.ValidationError as error:
        faults.add_words("body", (), "a body that the OpenAPI document does not describe", str(error))
        raise faults.refusal() from None


def require_json(body: bytes, code: Code) -> None:
    """Refuse a body that is empty or in another encoding, under the code of the document that it should be.

    Raises:
        UntrustedInputError: of the code ``code``: it is empty, or in another encoding, as the detail says in
            words.
    """
    if (given := _name_no_json(body)) is not None:
        raise UntrustedInputError(code, f"{given} where {_DOCUMENT_IN_WORDS} should be")


def _name_no_json(body: bytes) -> str | None:
    """What a body is that people often send in the place of JSON; ``None`` for any other."""
    if not body.strip():
        return "an empty body"
    if body.startswith(codecs.BOM_UTF8):
        return "a byte-order mark before the JSON"
    if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "UTF-16"
    return None
