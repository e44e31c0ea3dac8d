"""The source's activities, from one table."""

from function_app.azure.wiring import source_side
from function_app.durable.blueprint import Table, declare_activities
from function_app.durable.stopping import STOP_WORK, stop_work
from function_app.journal.recording import RECORD_STATE, record_state
from function_app.pipeline_runs import READ_PIPELINE_RUN, read_pipeline_run
from function_app.ports import SourceSide
from function_app.source import dividing, exporting, hashing, planning, sealing, selecting, wire

STEPS: Table[SourceSide] = {
    wire.LIST_REPOSITORIES: selecting.list_repositories,
    wire.SELECT_TAGS: selecting.select_tags,
    wire.GATHER_REFERENCES: selecting.gather_references,
    wire.RESOLVE_ARTIFACTS: planning.resolve_artifacts,
    wire.FIND_HELD: planning.find_held,
    wire.PLAN_TRANSFER: planning.plan_transfer,
    wire.ORDER_PORTION: dividing.order_portion,
    wire.START_EXPORT_RUN: exporting.start_export_run,
    READ_PIPELINE_RUN: read_pipeline_run,
    wire.CONFIRM_EXPORT: exporting.confirm_export,
    wire.DIVIDE_BLOBS: hashing.divide_blobs,
    wire.HASH_PARTS: hashing.hash_parts,
    wire.SEAL_BUNDLE: sealing.seal_bundle,
    wire.PUBLISH_BUNDLE: sealing.publish_bundle,
    STOP_WORK: stop_work,
    RECORD_STATE: record_state,
}

bp = declare_activities(STEPS, source_side)
