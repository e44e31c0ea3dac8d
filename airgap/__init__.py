"""The domain of ACR Airgap Transfer: bytes and values in, verdicts out.

No network, no environment, no clock; time and keys are arguments. In reading order:

* :mod:`airgap.errors` — what can go wrong: codes, remedies, exit codes
* :mod:`airgap.parts` — a transfer blob cut into parts
* :mod:`airgap.manifest` — the bundle manifest, on :mod:`airgap.statement` (in-toto)
* :mod:`airgap.envelope` — DSSE, on :mod:`airgap.keys`, both on :mod:`airgap.signatures`
* :mod:`airgap.policy` — the trust policy
* :mod:`airgap.verify` — the numbered list of everything that must hold
* :mod:`airgap.policy_chain` — which policy follows the pinned one; in words: :mod:`airgap.policy_words`
* :mod:`airgap.ledger` — replay and order
* :mod:`airgap.journal` — what became of a transfer or an import, as a chain of entries;
  what may follow what is in :mod:`airgap.states`
* :mod:`airgap.retention` — how long what lies there of a transfer or an import is kept once that has ended
* :mod:`airgap.damage` and :mod:`airgap.receipt` — what was found and what was decided
* :mod:`airgap.deliveries` — what the registries of an audience have answered, and what that comes to
* :mod:`airgap.holdings` — what a target registry holds by the receipts that came back
* :mod:`airgap.checks` — what services of the target are asked about a bundle, and what counts as an answer;
  where it must be signed: :mod:`airgap.signed_check`
* :mod:`airgap.release` — the word of persons at the target that a bundle may be imported
* :mod:`airgap.cosigning` — signatures by people at the source, put together with its own
* :mod:`airgap.override` — break-glass: rules of time and order lifted for one bundle
* :mod:`airgap.media_plan` — which part goes onto which volume
* :mod:`airgap.erasure`, :mod:`airgap.parity`, :mod:`airgap.repair_outlook` — lost parts rebuilt from others
* :mod:`airgap.recarry` — asking for exactly the parts that are lost
* :mod:`airgap.ticket` — rights to the blobs of one bundle, for a short time, in one file
* :mod:`airgap.custody_event` and :mod:`airgap.custody` — who had a volume, as a chain of events
* :mod:`airgap.pipeline_runs` — what ACR Transfer's answers mean
* :mod:`airgap.redaction` — secrets taken out of words that are not ours
* :mod:`airgap.strict_json`, :mod:`airgap.fields` and :mod:`airgap.versions` — how untrusted JSON is read, and
  by the reader of which version

The formats are specified in ``docs/format.md``.
"""

__version__ = "0.1.0"
