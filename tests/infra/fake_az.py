"""Stands in for ``az`` on the path: notes each call, and answers as the real one was seen to do.

Errors are those of the issues that are named beside them; answers have the members that our scripts read.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PRINCIPAL_NOT_FOUND = (
    # https://github.com/Azure/avdaccelerator/issues/99
    'ERROR: {"code":"DeploymentFailed","message":"At least one resource deployment operation failed. Please '
    "list deployment operations for details. Please see https://aka.ms/DeployOperations for usage "
    'details.","details":[{"code":"PrincipalNotFound","message":"Principal *** does not exist in the '
    'directory ***. Check that you have the correct principal ID."}]}\n'
)
VAULT_IS_DELETED = (
    # https://github.com/Azure/azure-cli/issues/19846
    'ERROR: {"status":"Failed","error":{"code":"DeploymentFailed","message":"At least one resource '
    'deployment operation failed.","details":[{"code":"Conflict","message":"{\\r\\n  \\"error\\": '
    '{\\r\\n    \\"code\\": \\"ConflictError\\",\\r\\n    \\"message\\": \\"A vault with the same name '
    'already exists in deleted state.\\"\\r\\n  }\\r\\n}"}]}}\n'
)
UPLOAD_IS_FORBIDDEN = (
    # https://www.powershellgallery.com/packages/ZeroFailed.Deploy.Azure/1.8.4 (the exception), and
    # https://github.com/Azure/azure-functions-core-tools/issues/4346 (what storage answers)
    "ERROR: Deployment failed. BlobUploadFailedException: Failed to upload blob package to storage account. "
    "Response status code does not indicate success: 403 (This request is not authorized to perform this "
    "operation.)\n"
)
NOT_SIGNED_IN = "ERROR: Please run 'az login' to setup account.\n"
NO_GROUP = (
    # az 2.91.0, at the local cloud's ARM: `az functionapp list`
    "ERROR: (ResourceGroupNotFound) Resource group 'airgap' could not be found.\n"
    "Code: ResourceGroupNotFound\nMessage: Resource group 'airgap' could not be found.\n"
)
WHAT_IF_IS_FORBIDDEN = (
    # az 2.91.0, at the local cloud's ARM: `az deployment group what-if` that is refused ends with a trace
    "ERROR: The command failed with an unexpected error. Here is the traceback:\n"
    "ERROR: The content for this response was already consumed\n"
    "Traceback (most recent call last):\n"
    "azure.core.exceptions.HttpResponseError: (AuthorizationFailed) The client does not have authorization.\n"
    "Code: AuthorizationFailed\nMessage: The client does not have authorization.\n"
    "RuntimeError: The content for this response was already consumed\n"
)
INVALID = (
    'ERROR: {"code": "InvalidTemplate", "message": "Deployment template validation failed: \'The value for '
    "the template parameter 'prefix' is not valid.'\"}\n"
)

_PROGRAM = """#!{python}
import json, os, pathlib, stat, sys
here = pathlib.Path({folder!r})
call = {{"argv": sys.argv[1:], "files": {{}}}}
for word in sys.argv[1:]:
    if word.startswith("@"):
        path = pathlib.Path(word[1:])
        call["files"][word[1:]] = [stat.S_IMODE(path.stat().st_mode), json.loads(path.read_text())]
with (here / "calls.jsonl").open("a") as log:
    log.write(json.dumps(call) + "\\n")
answers = json.loads((here / "answers.json").read_text())
verb = max((verb for verb in answers if " ".join(sys.argv[1:]).startswith(verb)), key=len, default=None)
if verb is None:
    sys.exit("ERROR: " + " ".join(sys.argv[1:]) + " is not known to this az.")
told = answers[verb].pop(0) if len(answers[verb]) > 1 else answers[verb][0]
(here / "answers.json").write_text(json.dumps(answers))
if isinstance(told, str) and told.startswith("ERROR"):
    sys.stderr.write(told)
    sys.exit(1)
print(told if isinstance(told, str) else json.dumps(told))
"""


@dataclass
class FakeAz:
    """Answers by the verb that a call begins with: of a list one after the other, the last for ever."""

    folder: Path
    answers: dict[str, list[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        program = self.folder / "az"
        program.write_text(_PROGRAM.format(python=sys.executable, folder=str(self.folder)), encoding="utf-8")
        program.chmod(0o755)
        self.tell({})

    def tell(self, answers: Mapping[str, Any]) -> None:
        """What it answers from now on."""
        for verb, told in answers.items():
            self.answers[verb] = told if isinstance(told, list) else [told]
        (self.folder / "answers.json").write_text(json.dumps(self.answers), encoding="utf-8")

    @property
    def path(self) -> str:
        """The value of ``PATH`` with which it is the ``az`` that is found."""
        return f"{self.folder}{os.pathsep}{Path(str(shutil.which('sh'))).parent}"

    @property
    def calls(self) -> list[dict[str, Any]]:
        """Each call: its ``argv``, and the ``files`` that were given, by path: mode and content."""
        log = self.folder / "calls.jsonl"
        return [json.loads(line) for line in log.read_text("utf-8").splitlines()] if log.exists() else []

    @property
    def verbs(self) -> list[str]:
        """Each call by the words before its first option."""
        found = []
        for call in self.calls:
            words = call["argv"]
            end = next((at for at, word in enumerate(words) if word.startswith("-")), len(words))
            found.append(" ".join(words[:end]))
        return found
