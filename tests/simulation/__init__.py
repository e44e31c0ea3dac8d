"""One seed decides everything that happens to the target; after every step the invariants are checked.

Read in this order: :mod:`~tests.simulation.options` (what a seed draws), :mod:`~tests.simulation.scheduler`
(one thing at a time), :mod:`~tests.simulation.durable` (the orchestrations' host), :mod:`~tests.simulation.
services` (the ports, and what goes wrong with them), :mod:`~tests.simulation.workload` (honest and hostile
uploads), :mod:`~tests.simulation.people` (a scanner, officers, writers of policies), :mod:`~tests.simulation.
invariants` (what must hold), :mod:`~tests.simulation.simulator` (a whole run), :mod:`~tests.simulation.
mutants` (causes taken out, to be found).
Last, :mod:`~tests.simulation.crossing`: source, carrier and target, and what must hold at both ends.

The product's part is real: the steps, the orchestrators, the intake, the reconciler. They are taken from
their tables, so that one more of them is simulated without a change here.
"""

import os

# The package of the app reads its role while it is imported, as the worker does.
os.environ.setdefault("TRANSFER_ROLE", "source")
