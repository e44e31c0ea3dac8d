"""The target's activities, from one table."""

from function_app.azure.wiring import target_side
from function_app.durable.blueprint import Table, declare_activities
from function_app.durable.stopping import STOP_WORK, stop_work
from function_app.journal.recording import RECORD_STATE, record_state
from function_app.pipeline_runs import READ_PIPELINE_RUN, read_pipeline_run
from function_app.ports import TargetSide
from function_app.target import (
    acceptance,
    admission,
    checking,
    closing,
    custody,
    importing,
    proving,
    putting_away,
    releasing,
    staged,
    verifying,
    wire,
)

STEPS: Table[TargetSide] = {
    wire.ADMIT_BUNDLE: admission.admit_bundle,
    wire.INSPECT_BLOBS: custody.inspect_blobs,
    wire.TAKE_CUSTODY: custody.take_custody,
    wire.TAKE_TURN: acceptance.take_turn,
    wire.HASH_STAGED_PARTS: verifying.hash_staged_parts,
    wire.ACCEPT_BUNDLE: acceptance.accept_bundle,
    wire.RUN_CHECK: checking.run_check,
    wire.CLEAR_BUNDLE: releasing.clear_bundle,
    wire.PROMOTE_BLOB: importing.promote_blob,
    wire.START_IMPORT_RUN: importing.start_import_run,
    READ_PIPELINE_RUN: read_pipeline_run,
    wire.NOTE_REPORT: proving.note_report,
    wire.PROVE_ARTIFACTS: proving.prove_artifacts,
    wire.TAKE_STAGING: staged.take_staging,
    wire.EMPTY_STAGING: staged.empty_staging,
    wire.PROVE_STAGED: staged.prove_staged,
    wire.SURVEY_STAGING: staged.survey_staging,
    wire.CONCLUDE_STAGED: staged.conclude_staged,
    wire.BRING_DIGESTS: staged.bring_digests,
    wire.BRING_TAGS: staged.bring_tags,
    wire.LEAVE_STAGING: staged.leave_staging,
    wire.CONCLUDE_IMPORT: proving.conclude_import,
    wire.RECORD_DECISION: closing.record_decision,
    wire.PUT_AWAY: putting_away.put_away,
    wire.TAKE_STOCK: proving.take_stock,
    wire.ISSUE_RECEIPT: closing.issue_receipt,
    wire.CLEAN_UP: closing.clean_up,
    wire.FORGET_CLOSING: closing.forget_closing,
    STOP_WORK: stop_work,
    RECORD_STATE: record_state,
}

bp = declare_activities(STEPS, target_side)
