"""What somebody uploads in place of the bundle manifest's envelope: nobody has vouched for a byte of it."""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from airgap.errors import Code
from airgap.signatures import DsseEnvelope
from airgap.statement import PAYLOAD_TYPE
from tests.attacks.scene import DEV_KEY, Attack, Refused, Scene, seal
from tests.bundles import default_key, make_bundle, new_key
from tests.function_app.memory import START
from tests.function_app.test_import import RECEIPT_KEY

Raw = Callable[[bytes], bytes]
Json = Callable[[dict[str, Any]], object]

_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def _envelope(change: Raw) -> Callable[[Scene], Mapping[str, Any]]:
    return lambda scene: scene.push(envelope=change(scene.bundle.envelope))


def _members(change: Json) -> Raw:
    def changed(raw: bytes) -> bytes:
        value = json.loads(raw)
        change(value)
        return json.dumps(value).encode()

    return changed


def _first(change: Json) -> Json:
    return lambda envelope: change(envelope["signatures"][0])


def _signature(change: Callable[[bytes], bytes]) -> Json:
    def changed(envelope: dict[str, Any]) -> None:
        first = envelope["signatures"][0]
        first["sig"] = base64.b64encode(change(base64.b64decode(first["sig"]))).decode()

    return changed


def _payload(change: Callable[[bytes], bytes]) -> Json:
    def changed(envelope: dict[str, Any]) -> None:
        envelope["payload"] = base64.b64encode(change(base64.b64decode(envelope["payload"]))).decode()

    return changed


def _flip(at: int) -> Callable[[bytes], bytes]:
    return lambda content: (
        content[: at % len(content)] + bytes([content[at] ^ 1]) + content[at % len(content) + 1 :]
    )


def _sign_raw(message: bytes) -> bytes:
    key = load_pem_private_key(default_key().private_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key.sign(message, ec.ECDSA(hashes.SHA256()))


def _signs(message: Callable[[bytes], bytes]) -> Json:
    """The source's own key has signed something else than it must."""

    def changed(envelope: dict[str, Any]) -> None:
        signature = _sign_raw(message(base64.b64decode(envelope["payload"])))
        envelope["signatures"][0]["sig"] = base64.b64encode(signature).decode()

    return changed


def _components(signature: bytes) -> bytes:
    r, s = utils.decode_dss_signature(signature)
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _other_bundle() -> bytes:
    return make_bundle(blob_sizes=(10,), created_at=START, transfer_id="honest0009", seed=9).envelope


def _signature_of_another(envelope: dict[str, Any]) -> None:
    envelope["signatures"] = json.loads(_other_bundle())["signatures"]


def _payload_of_another(envelope: dict[str, Any]) -> None:
    envelope["payload"] = json.loads(_other_bundle())["payload"]


def _also(*keys: Any) -> Raw:
    """Further keys have signed, too, each under the name of the source's key."""

    def changed(raw: bytes) -> bytes:
        value = json.loads(raw)
        payload = base64.b64decode(value["payload"])
        for key in keys:
            (more,) = json.loads(seal(payload, key))["signatures"]
            value["signatures"].append({**more, "keyid": default_key().keyid})
        return json.dumps(value).encode()

    return changed


def _wide(raw: bytes) -> bytes:
    return raw.replace(b'"payloadType"', b'"payloadT\\u0079pe\\ud800"', 1)


MALFORMED: Mapping[str, Raw] = {
    "nothing at all": lambda _: b"",
    "a blank": lambda _: b" ",
    "a zero byte": lambda _: b"\0",
    "a null": lambda _: b"null",
    "a number": lambda _: b"1",
    "a text": lambda _: b'"envelope"',
    "an array of envelopes": lambda raw: b"[" + raw + b"]",
    "two envelopes one after the other": lambda raw: raw + raw,
    "an envelope and a comment": lambda raw: raw + b"// ok",
    "cut in the middle": lambda raw: raw[: len(raw) // 2],
    "its last byte is missing": lambda raw: raw.rstrip()[:-1],
    "a byte order mark before it": lambda raw: b"\xef\xbb\xbf" + raw,
    "UTF-16": lambda raw: raw.decode().encode("utf-16"),
    "UTF-32": lambda raw: raw.decode().encode("utf-32"),
    "Latin-1 with an umlaut": lambda raw: raw.replace(b"payloadType", "päyload".encode("latin-1"), 1),
    "a lone surrogate in a name": _wide,
    "gzip": lambda raw: __import__("gzip").compress(raw),
    "XML": lambda _: b"<?xml version='1.0'?><envelope/>",
    "a thousand brackets": lambda _: b"[" * 1000,
    "a hundred thousand objects": lambda _: b'{"signatures":[' + b"{}," * 100_000 + b"{}]}",
    "NaN as a member": lambda raw: raw.replace(b"{", b'{"x":NaN,', 1),
    "a member twice": lambda raw: raw.replace(b"{", b'{"payloadType":"application/vnd.in-toto+json",', 1),
    "a member of nobody's": _members(lambda e: e.update(note="hello")),
    "no payload": _members(lambda e: e.pop("payload")),
    "an empty payload": _members(lambda e: e.update(payload="")),
    "the payload is null": _members(lambda e: e.update(payload=None)),
    "the payload as an object": _members(lambda e: e.update(payload={})),
    "no payload type": _members(lambda e: e.pop("payloadType")),
    "another payload type": _members(lambda e: e.update(payloadType="application/json")),
    "the payload type in upper case": _members(lambda e: e.update(payloadType=PAYLOAD_TYPE.upper())),
    "the payload type with a parameter": _members(lambda e: e.update(payloadType=f"{PAYLOAD_TYPE};v=1")),
    "no signatures": _members(lambda e: e.pop("signatures")),
    "an empty list of signatures": _members(lambda e: e.update(signatures=[])),
    "signatures as an object": _members(lambda e: e.update(signatures={})),
    "a signature that is null": _members(lambda e: e.update(signatures=[None])),
    "seventeen signatures": _members(
        lambda e: e.update(
            signatures=[{**e["signatures"][0], "keyid": f"{number:064x}"} for number in range(17)]
        )
    ),
    "one signature twice": _members(lambda e: e["signatures"].append(e["signatures"][0])),
    "a second signature under the same key id": _also(new_key()),
    "a signature without its key's id": _members(_first(lambda s: s.pop("keyid"))),
    "an empty key id": _members(_first(lambda s: s.update(keyid=""))),
    "the key id in upper case": _members(_first(lambda s: s.update(keyid=s["keyid"].upper()))),
    "the key id with a blank": _members(_first(lambda s: s.update(keyid=s["keyid"] + " "))),
    "a key id that climbs": _members(_first(lambda s: s.update(keyid="../" * 20 + "keys"))),
    "no signature value": _members(_first(lambda s: s.pop("sig"))),
    "an empty signature": _members(_first(lambda s: s.update(sig=""))),
    "a signature in hex": _members(_first(lambda s: s.update(sig=base64.b64decode(s["sig"]).hex() + "!"))),
    "a certificate beside the signature": _members(_first(lambda s: s.update(cert="-----BEGIN"))),
    "URL-safe base64": _members(lambda e: e.update(payload=e["payload"].rstrip("=") + "-_==")),
    "base64 with line ends": _members(
        lambda e: e.update(payload=e["payload"][:76] + "\n" + e["payload"][76:])
    ),
    "base64 with one padding more": _members(lambda e: e.update(payload=e["payload"] + "=")),
    "base64 cut by one character": _members(lambda e: e.update(payload=e["payload"][:-1])),
    "base64 with bytes after its padding": _members(lambda e: e.update(payload=e["payload"] + "=AAA")),
}

UNTRUSTED: Mapping[str, tuple[Raw, Code]] = {
    "signed by nobody's key": (
        lambda raw: seal(base64.b64decode(json.loads(raw)["payload"]), new_key()),
        Code.SIGNER_UNKNOWN,
    ),
    "nobody's key under the source's id": (
        _members(
            lambda e: e.update(
                signatures=[
                    {
                        **json.loads(seal(base64.b64decode(e["payload"]), new_key()))["signatures"][0],
                        "keyid": default_key().keyid,
                    }
                ]
            )
        ),
        Code.SIGNATURE_INVALID,
    ),
    "signed by the key of another channel": (
        lambda raw: seal(base64.b64decode(json.loads(raw)["payload"]), DEV_KEY),
        Code.THRESHOLD_NOT_MET,
    ),
    "signed by the target's own receipt key": (
        lambda raw: seal(base64.b64decode(json.loads(raw)["payload"]), RECEIPT_KEY),
        Code.THRESHOLD_NOT_MET,
    ),
    "the source's signature under another channel's key id": (
        _members(_first(lambda s: s.update(keyid=DEV_KEY.keyid))),
        Code.SIGNATURE_INVALID,
    ),
    "an unknown key id": (_members(_first(lambda s: s.update(keyid="0" * 64))), Code.SIGNER_UNKNOWN),
    "the payload of another bundle": (_members(_payload_of_another), Code.SIGNATURE_INVALID),
    "the signature of another bundle": (_members(_signature_of_another), Code.SIGNATURE_INVALID),
    "a flipped bit at the payload's start": (_members(_payload(_flip(0))), Code.SIGNATURE_INVALID),
    "a flipped bit in the payload's middle": (_members(_payload(_flip(500))), Code.SIGNATURE_INVALID),
    "a flipped bit at the payload's end": (_members(_payload(_flip(-2))), Code.SIGNATURE_INVALID),
    "a blank after the payload": (_members(_payload(lambda p: p + b" ")), Code.SIGNATURE_INVALID),
    "the payload written anew with blanks": (
        _members(_payload(lambda p: json.dumps(json.loads(p), indent=1).encode())),
        Code.SIGNATURE_INVALID,
    ),
    "a flipped bit in the signature": (_members(_signature(_flip(20))), Code.SIGNATURE_INVALID),
    "the signature cut": (_members(_signature(lambda s: s[:-1])), Code.SIGNATURE_INVALID),
    "bytes after the signature": (_members(_signature(lambda s: s + b"\0")), Code.SIGNATURE_INVALID),
    "a signature of one byte": (_members(_signature(lambda _: b"0")), Code.SIGNATURE_INVALID),
    "a signature of zeros": (_members(_signature(lambda s: bytes(len(s)))), Code.SIGNATURE_INVALID),
    "r and s are zero": (
        _members(_signature(lambda _: utils.encode_dss_signature(0, 0))),
        Code.SIGNATURE_INVALID,
    ),
    "r and s are the curve's order": (
        _members(_signature(lambda _: utils.encode_dss_signature(_P256_ORDER, _P256_ORDER))),
        Code.SIGNATURE_INVALID,
    ),
    "r and s without DER": (_members(_signature(_components)), Code.SIGNATURE_INVALID),
    "the key signed the payload without its type": (_members(_signs(lambda p: p)), Code.SIGNATURE_INVALID),
    "the key signed the payload's digest": (
        _members(_signs(lambda p: hashlib.sha256(p).digest())),
        Code.SIGNATURE_INVALID,
    ),
    "the key signed the payload under another type": (
        _members(_signs(lambda p: DsseEnvelope(p, "application/json", {}).pae())),
        Code.SIGNATURE_INVALID,
    ),
    "the key signed lengths in another form": (
        _members(
            _signs(lambda p: DsseEnvelope(p, PAYLOAD_TYPE, {}).pae().replace(b"DSSEv1 28", b"DSSEv1 028"))
        ),
        Code.SIGNATURE_INVALID,
    ),
}

ATTACKS: Mapping[str, Attack] = {
    **{
        f"envelope: {name}": Attack(by="B", act=_envelope(change), end=Refused(code=Code.ENVELOPE_MALFORMED))
        for name, change in MALFORMED.items()
    },
    **{
        f"signature: {name}": Attack(by="B", act=_envelope(change), end=Refused(code=code))
        for name, (change, code) in UNTRUSTED.items()
    },
}
