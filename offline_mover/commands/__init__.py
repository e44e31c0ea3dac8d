"""What each verb does, one module a verb; verbs do not know each other.

What two of them tell alike is beside them: :mod:`~offline_mover.commands.inspection_outcome` (``verify`` and
``report``), :mod:`~offline_mover.commands.receipt_outcome` (both directions of ``receipts``).
"""
