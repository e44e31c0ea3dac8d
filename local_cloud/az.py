"""The Azure CLI, signed in to a cloud of this machine, as whoever deploys there would have it.

`az` gets a configuration of its own below the cloud's folder, so that the user's stays as it is; it is told
where the cloud is, and signs in as the owner of the subscription.
"""

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from infra.templates import arm_path
from local_cloud.cloud import PROJECT, Cloud, CloudError

_TIMEOUT_S = 600.0
_SHOWN_CHARS = 2000


def environment(cloud: Cloud) -> Mapping[str, str]:
    """The variables that `az` needs: where its configuration is, and whose certificates it believes.

    Without the last of them MSAL would ask the public cloud whether this one is one of Microsoft's.
    """
    return {
        "AZURE_CONFIG_DIR": str(cloud.folder / "az"),
        "REQUESTS_CA_BUNDLE": str(cloud.ca.ca_file),
        "SSL_CERT_FILE": str(cloud.ca.ca_file),
        "AZURE_CORE_COLLECT_TELEMETRY": "no",
        "AZURE_CORE_INSTANCE_DISCOVERY": "false",
    }


def signing_in(cloud: Cloud) -> Sequence[Sequence[str]]:
    """The commands, without their first word ``az``, that make the cloud known and sign its owner in.

    The secret lies in a file, which `az` reads: others see the words of a command.
    """
    secret_file = cloud.folder / "owner-secret"
    secret_file.touch(mode=0o600)
    secret_file.write_text(cloud.machine.owner.secret, encoding="utf-8")
    name = f"local-{cloud.role}"
    who = ("--username", cloud.machine.owner.client_id, "--password", f"@{secret_file}")
    return [
        ["cloud", "register", "--name", name, "--endpoint-resource-manager", cloud.url("arm")],
        ["cloud", "set", "--name", name],
        ["login", "--service-principal", *who, "--tenant", cloud.tokens.tenant_id],
        ["account", "set", "--subscription", cloud.group_id.split("/")[2]],
    ]


def block(cloud: Cloud) -> str:
    """The lines after which a shell's ``az`` is signed in to a running cloud; they may be run again."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in environment(cloud).items()]
    register, *others = (shlex.join(["az", *words]) for words in signing_in(cloud))
    is_known = f"az cloud show --name local-{cloud.role} --output none 2> /dev/null"
    return "\n".join([*lines, f"{is_known} || {register}", *others])


class Az:
    """The `az` command, signed in to a running cloud; ``tell`` is told each command that is run."""

    def __init__(self, cloud: Cloud, *, tell: Callable[[str], object] = lambda _: None) -> None:
        """Sign in.

        Raises:
            CloudError: there is no `az`, or it does not sign in.
        """
        self._program = shutil.which("az")
        if self._program is None:
            raise CloudError("`az`, the Azure CLI, is not on the path")
        self._cloud = cloud
        self._tell = tell
        for words in signing_in(cloud):
            self(*words)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command with the configuration of this `az`, in the project's folder."""
        return subprocess.run(
            command,
            env={"PATH": os.environ["PATH"], **environment(self._cloud)},
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )

    def __call__(self, *words: str) -> Any:
        """The answer to ``az`` with these words, from its JSON.

        Raises:
            CloudError: it failed; with what it said.
        """
        command = shlex.join(["az", *words])
        self._tell(command)
        done = self.run(str(self._program), *words, "--output", "json")
        if done.returncode:
            raise CloudError(f"{command} ended with {done.returncode}:\n{done.stderr[-_SHOWN_CHARS:]}")
        return json.loads(done.stdout or "null")

    def deploy(self, parameters_file: Path) -> None:
        """Deploy the cloud's side with the parameters in a file.

        Raises:
            CloudError: the deployment fails; with what `az` said.
        """
        role, group = self._cloud.role, self._cloud.group_id.rpartition("/")[2]
        where = ("--resource-group", group, "--name", f"airgap-{role}")
        what = ("--template-file", str(arm_path(role)), "--parameters", f"@{parameters_file}")
        self("deployment", "group", "create", *where, *what)


def deploys_with_az(tell: Callable[[str], object]) -> Callable[[Cloud], None]:
    """A :attr:`Cloud.deployer` by which `az` sends deployments; it signs in before the first to a cloud."""
    signed_in: dict[str, Az] = {}

    def deploy(cloud: Cloud) -> None:
        if cloud.role not in signed_in:
            signed_in[cloud.role] = Az(cloud, tell=tell)
        signed_in[cloud.role].deploy(cloud.parameters_file)

    return deploy
