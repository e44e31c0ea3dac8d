"""The target's activities, from one table."""

from function_app.azure.wiring import target_side
from function_app.durable.blueprint import Table, declare_activities
from function_app.durable.stopping import STOP_WORK, stop_work
from function_app.journal.recording import RECORD_STATE, record_state
from function_app.pipeline_runs import READ_PIPELINE_RUN, read_pipeline_run
from function_app.ports import TargetSide
from function_app.target import acceptance, admission, closing, importing, verifying, wire

STEPS: Table[TargetSide] = {
    wire.ADMIT_BUNDLE: admission.admit_bundle,
    wire.TAKE_TURN: acceptance.take_turn,
    wire.INSPECT_BLOBS: verifying.inspect_blobs,
    wire.HASH_INCOMING_PARTS: verifying.hash_incoming_parts,
    wire.ACCEPT_BUNDLE: acceptance.accept_bundle,
    wire.PROMOTE_BLOB: importing.promote_blob,
    wire.START_IMPORT_RUN: importing.start_import_run,
    READ_PIPELINE_RUN: read_pipeline_run,
    wire.PROVE_ARTIFACTS: importing.prove_artifacts,
    wire.RECORD_DECISION: closing.record_decision,
    wire.QUARANTINE_UPLOAD: closing.quarantine_upload,
    wire.ISSUE_RECEIPT: closing.issue_receipt,
    wire.CLEAN_UP: closing.clean_up,
    wire.FORGET_CLOSING: closing.forget_closing,
    STOP_WORK: stop_work,
    RECORD_STATE: record_state,
}

bp = declare_activities(STEPS, target_side)
