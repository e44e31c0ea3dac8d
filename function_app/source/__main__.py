"""``python -m function_app.source receipts``: read every receipt that ever came back once more.

This is for a source that was updated from a version that kept no receipts for what they prove. It takes its
settings from the environment, as the app does. Exit code 0: all were read; otherwise that of the error, as in
``docs/errors.md``.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from airgap.errors import AirgapError
from function_app.azure.wiring import source_side
from function_app.settings import read_role, refuse
from function_app.source.receiving import receive_all


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m function_app.source",
        description="The source that the app settings in the environment name.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("receipts", help="read every receipt once more: what it proves is kept")
    parser.parse_args(arguments)
    try:
        if read_role(os.environ) != "source":
            refuse("TRANSFER_ROLE", "not source")
        read, told = receive_all(source_side(), now=datetime.now(UTC))
    except AirgapError as error:
        sys.stderr.write(f"{error}\n{error.code.remedy}\n")
        return error.code.exit_code
    sys.stdout.write(f"receipts read: {read}, which decide something: {told}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
