"""The command ``./dev infra``: ``compile`` writes the ARM templates, ``check`` says what is wrong."""

import argparse
import sys

from infra import official, roles, rules
from infra.bicep.template import CompilationError
from infra.expansion import ExpansionError
from infra.templates import FOLDER, SIDES, arm_path, arm_text, stale


def main() -> int:
    """Run one of the two commands; returns 0 if the templates are in order, 1 if not, 2 for broken Bicep."""
    parser = argparse.ArgumentParser(prog="./dev infra", description=__doc__)
    parser.add_argument("action", choices=["compile", "check"])
    action = parser.parse_args().action
    try:
        if bicep := official.find():
            official.require_same((FOLDER / f"{side}.bicep" for side in SIDES), bicep)
        if action == "compile":
            for side in SIDES:
                arm_path(side).write_text(arm_text(side), encoding="utf-8", newline="\n")
            roles.PAGE.write_text(roles.page(), encoding="utf-8", newline="\n")
        told = list(dict.fromkeys(rules.broken()))
        behind = stale() + [roles.PAGE] * (roles.PAGE.read_text(encoding="utf-8") != roles.page())
    except (CompilationError, ExpansionError) as error:
        print(f"{error}", file=sys.stderr)
        return 2
    for path in behind:
        print(
            f"{path.relative_to(FOLDER.parent)} is behind. Run: ./dev infra compile",
            file=sys.stderr,
        )
    for fault in told:
        print(fault, file=sys.stderr)
    return 1 if behind or told else 0


if __name__ == "__main__":
    sys.exit(main())
