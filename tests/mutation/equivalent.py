"""Mutants that no test can notice: they refuse and accept just what the module does. Each with its reason."""

from collections.abc import Mapping

EQUIVALENT: Mapping[str, Mapping[str, str]] = {
    "airgap/division.py": {
        "divide: room = 0 => room = 1": "the first reference begins a portion, whatever room there was",
        "divide: room = 0 => room = -1": "the first reference begins a portion, whatever room there was",
    },
    "airgap/policy_chain.py": {
        "require_newest: newest = max(used, default=0) => newest = max(used, default=1)": (
            "no policy has a version below 1"
        ),
        "require_newest: newest = max(used, default=0) => newest = max(used, default=-1)": (
            "no policy has a version below 1"
        ),
    },
    "function_app/source/selection.py": {
        "the module: _RE2_BYTES = 1024 * 1024 => _RE2_BYTES = 1025 * 1024": (
            "a bound on memory, far above what a pattern of 256 characters that is taken needs"
        ),
        "the module: _RE2_BYTES = 1024 * 1024 => _RE2_BYTES = 1023 * 1024": (
            "a bound on memory, far above what a pattern of 256 characters that is taken needs"
        ),
        "the module: _RE2_BYTES = 1024 * 1024 => _RE2_BYTES = 1024 * 1025": (
            "a bound on memory, far above what a pattern of 256 characters that is taken needs"
        ),
        "the module: _RE2_BYTES = 1024 * 1024 => _RE2_BYTES = 1024 * 1023": (
            "a bound on memory, far above what a pattern of 256 characters that is taken needs"
        ),
    },
    "function_app/target/acceptance.py": {
        **{
            f"take_turn: turns.enter(int(noted.sequence or 0), order.instance) => "
            f"turns.enter(int(noted.sequence{other}), order.instance)": "what was admitted has a number"
            for other in ("", " or 1", " or -1")
        },
        "_take_number: judge_taken(holder, manifest_sha256=entry.manifest_sha256, owner=entry.owner) "
        "=> pass": ("it is judged once more, as of then, which finds whose the number is"),
    },
    "function_app/target/admission.py": {
        "note_policy_version: version > (work.get(VERDICT, VerdictNote).policy_version or 0): => "
        "version > (work.get(VERDICT, VerdictNote).policy_version or -1):": "no policy has a version below 1",
        "_withdraw: if noted is not None and noted.channel is not None: => if noted is not None:": (
            "no channel has no turn and no queue"
        ),
    },
    "function_app/target/judging.py": {
        "judge_envelope: verdict = judge(lifted=lifted) if lifted else verdict => "
        "verdict = judge(lifted=lifted)": "where nothing is lifted, it is judged as before",
    },
    "function_app/target/closing.py": {
        "clean_up: if noted is not None and noted.channel is not None: => if noted is not None:": (
            "nothing lies below the folder of no channel and no manifest"
        ),
        "record_decision: if verdict is not None and verdict.channel is not None: => "
        "if verdict is not None:": ("no channel has no turn and no queue"),
        "_delete_some: (side.blobs.list_names(container, prefix), _BLOBS_AT_ONCE + 1)) => "
        "(side.blobs.list_names(container, prefix), _BLOBS_AT_ONCE + 2))": (
            "one name more than is deleted says that some are left, and two more say the same"
        ),
    },
}
