"""The commands: what each verb does, in one module for each; verbs do not know each other.

What two verbs tell alike is beside them: :mod:`~offline_mover.commands.inspection_outcome` (``verify`` and
``report``), :mod:`~offline_mover.commands.receipt_outcome` (both directions of ``receipts``).
"""
