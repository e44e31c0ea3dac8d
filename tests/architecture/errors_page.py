"""Renders ``docs/errors.md`` from the codes; ``python -m tests.architecture.errors_page`` writes it."""

from pathlib import Path

from airgap.errors import Code, error_for

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
_SIDES = {
    "OperatorError": "How it was called",
    "UntrustedInputError": "The data is wrong",
    "PolicyRefusal": "The data is not allowed",
    "MediaError": "The medium is at fault",
    "ServiceError": "A service said no",
}


def render() -> str:
    """The page, one table for each class of errors."""
    lines = [
        "# Errors",
        "",
        "Generated from `airgap/errors.py`. A code never changes its meaning. Exit code 0 is success, 1 a",
        "bug in the program, 130 an interruption; treat any exit code that is not listed as a failure.",
    ]
    for name, title in _SIDES.items():
        lines += ["", f"## {title}", "", "| exit | code | retry helps | what to do |", "|---|---|---|---|"]
        lines += [
            f"| {code.exit_code} | `{code.name}` | {'yes' if code.is_retryable else 'no'} | {code.remedy} |"
            for code in Code
            if type(error_for(code)).__name__ == name
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
