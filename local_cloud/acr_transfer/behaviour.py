"""Switches for what is not publicly known of ACR Transfer: a client that is right works with all of them.

Defaults are the most plausible reading of the public material. Each switch may be changed while the emulator
runs; it counts from the next request or run on.
"""

from dataclasses import dataclass
from typing import Literal

GIB = 1024**3


@dataclass(slots=True, kw_only=True)
class Behaviour:
    """The switches of one emulated registry."""

    # -- Answers. What a PipelineRun looks like on the wire is known from the specification only.
    run_put_status: Literal[200, 201] = 201
    """201 comes with Azure-AsyncOperation; 200 leaves the client with the resource. The specification has
    both."""
    run_delete_status: Literal[200, 202] = 200
    """202 comes with Location."""
    running_state: Literal["creating", "succeeded", "empty"] = "creating"
    """provisioningState while response.status is Running. The specification's own examples say Succeeded;
    users have met an empty one; Creating is what its enumeration suggests."""
    operation_error_body: bool = True
    """Whether a failed operation status carries ``error{code, message}``."""
    retry_after_s: int | None = 1
    """Retry-After on 201 and 202 and on running operations; None leaves it out."""
    page_size: int = 100
    """Entries in one page of a list; more come by nextLink."""

    # -- The same run name again.
    identical_put: Literal["old", "again"] = "old"
    """A PUT equal to the last one, forceUpdateTag included: the old run is returned, or it runs again. The
    documentation says that it is not run again."""
    conflict_while_running: Literal["changed", "any"] = "changed"
    """Which PUT gets 409 while the run of that name is going on."""

    # -- What a run does.
    existing_blob: Literal["fail", "skip"] = "fail"
    """Export onto an existing blob without OverwriteBlobs; skipping leaves it as it is and succeeds."""
    existing_tag: Literal["fail", "skip"] = "fail"
    """Import of a tag that exists with another digest, without OverwriteTags."""
    partial_result: Literal["Succeeded", "Failed"] = "Succeeded"
    """How a run with ContinueOnErrors ends when some artifacts failed and some did not."""
    carries_referrers: bool = False
    """Whether signatures and SBOMs that refer to an artifact come along unasked. Nothing says they do."""
    checks_catalog_digest: bool = True
    """Whether catalogDigest in an import's request is held against the blob."""
    max_parallel_runs: int = 10
    """Runs above it wait. A user's script claims ten."""
    run_delay_s: float = 0.0
    """Extra duration of each run, spread over its progress."""

    # -- Limits and surroundings.
    sku: Literal["Basic", "Standard", "Premium"] = "Premium"
    """Of the registry; only a premium one has pipelines. How Azure words the refusal is not known."""
    max_artifacts: int = 50
    """Per run; entries of the list are counted, not the children of an index."""
    max_layer_bytes: int = 8 * GIB - 1
    """The documentation says 8 GB; this is also where the size field of a ustar header ends."""
    storage_firewall: bool = False
    """Whether the storage account is closed to all but selected networks: then Transfer cannot reach it."""
    trigger_interval_s: float = 15 * 60
    """How often an enabled source trigger looks, by the emulator's clock. Documented: within 15 minutes."""
    trigger_max_age_s: float = 60 * 24 * 3600
    """A blob that was last modified longer ago is not seen by the trigger."""
