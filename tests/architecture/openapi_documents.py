"""Renders ``docs/openapi`` from the models and calls; ``./dev openapi`` writes it."""

import json
import os
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "docs" / "openapi"


def render() -> dict[str, str]:
    """The document of each side."""
    os.environ.setdefault("TRANSFER_ROLE", "source")  # the package reads it while it is imported
    from function_app.source import openapi as source  # noqa: PLC0415 - see above
    from function_app.target import openapi as target  # noqa: PLC0415 - see above

    made = {"source": source.openapi(), "target": target.openapi()}
    return {
        role: json.dumps(document, indent=1, ensure_ascii=False) + "\n" for role, document in made.items()
    }


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for role, text in render().items():
        (FOLDER / f"{role}.json").write_text(text, encoding="utf-8")
