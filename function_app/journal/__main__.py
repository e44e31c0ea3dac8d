"""``python -m function_app.journal rebuild``: check every journal and write the lists anew.

Takes its settings from the environment, as the app does. Exit code 0: every journal is whole and the lists
are up to date; otherwise the first error's, as in ``docs/errors.md``.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from airgap.errors import AirgapError
from function_app.azure.wiring import source_side, target_side
from function_app.journal.rebuild import rebuild
from function_app.journal.store import JournalStore
from function_app.settings import read_role


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m function_app.journal",
        description="The journal of this side, named by the app settings in the environment.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("rebuild", help="check every journal and write the lists of transfers and imports anew")
    parser.parse_args(arguments)
    try:
        side = source_side() if read_role(os.environ) == "source" else target_side()
        return report(JournalStore(side.blobs, side.projection))
    except AirgapError as error:
        sys.stderr.write(f"{error}\n{error.code.remedy}\n")
        return error.code.exit_code


def report(journals: JournalStore) -> int:
    """Rebuild the projection, print each broken journal and a summary; returns the exit code."""
    whole, exit_code, broken = 0, 0, 0
    for finding in rebuild(journals):
        if finding.error is None:
            whole += 1
            continue
        broken += 1
        exit_code = exit_code or finding.error.code.exit_code
        sys.stderr.write(f"{finding.kind}/{finding.about}: {finding.error}\n")
    sys.stdout.write(f"journals read: {whole + broken}, broken: {broken}\n")
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
