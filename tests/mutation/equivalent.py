"""Mutants that no test can notice: they refuse and accept just what the module does. Each with its reason."""

from collections.abc import Mapping

_NO_KEYS = "a policy without keys has none for its roles, and a role with an unknown key is refused"
_NO_KEYIDS = "a role without keys cannot reach a threshold of 1: refused a few lines below"
_THRESHOLD = "a threshold above the number of keys is refused a line below, and that is at most 100"
EQUIVALENT: Mapping[str, Mapping[str, str]] = {
    "airgap/policy.py": {
        "TrustPolicy.from_bytes: pems = _READ.items(members['keys'], 'keys', _read_key, least=1, most=100)"
        " => pems = _READ.items(members['keys'], 'keys', _read_key, most=100)": _NO_KEYS,
        "TrustPolicy.from_bytes: ems = _READ.items(members['keys'], 'keys', _read_key, least=1, most=100)"
        " => ems = _READ.items(members['keys'], 'keys', _read_key, least=0, most=100)": _NO_KEYS,
        "_read_role: _READ.items(value['keyids'], f'{where}.keyids', _READ.text, least=1, most=100))"
        " => _READ.items(value['keyids'], f'{where}.keyids', _READ.text, most=100))": _NO_KEYIDS,
        "_read_role: items(value['keyids'], f'{where}.keyids', _READ.text, least=1, most=100))"
        " => items(value['keyids'], f'{where}.keyids', _READ.text, least=0, most=100))": _NO_KEYIDS,
        "_read_role: AD.integer(value['threshold'], f'{where}.threshold', least=1, most=100)"
        " => AD.integer(value['threshold'], f'{where}.threshold', least=1)": _THRESHOLD,
        "_read_role: r(value['threshold'], f'{where}.threshold', least=1, most=100)"
        " => r(value['threshold'], f'{where}.threshold', least=1, most=101)": _THRESHOLD,
    }
}
