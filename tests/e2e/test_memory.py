"""Memory does not grow with the size: measured in processes of their own, as the worker and the mover are."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from azure.storage.blob import AccountSasPermissions, BlobBlock, ResourceTypes, generate_account_sas

from airgap.manifest import ENVELOPE_NAME
from airgap.parts import MIN_PART_SIZE_BYTES
from bench.line import Line, run_line
from local_cloud.azurite import Azurite
from local_cloud.pki import CertificateAuthority
from local_cloud.tokens import TokenAuthority
from tests.bundles import make_bundle

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
ROOT = Path(__file__).parents[2]
LIMIT_BYTES = 150_000_000
PART_BYTES = 16 * 1024 * 1024
PARTS = 8  # several for each activity; any two of them held whole would be too much

HASH_PARTS = """
import concurrent.futures, os, re, sys, time
from azure.core.credentials import AccessToken
from airgap.parts import plan_parts
from function_app.azure.blob import AzureBlobs
from function_app.part_groups import hash_part

class Credential:
    def get_token(self, *scopes, **options):
        return AccessToken(os.environ["TOKEN"], int(time.time()) + 3000)

url, part_size, count, at_once = sys.argv[1], *map(int, sys.argv[2:])
blobs = AzureBlobs(url, Credential())
etag = blobs.stat("transfer", "001").etag
parts = plan_parts("001", size_bytes=part_size * count, part_size_bytes=part_size)
with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
    digests = set(pool.map(lambda part: hash_part(blobs, "transfer", "001", etag=etag, part=part), parts))
# Not ru_maxrss: that one counts what the parent had when it forked.
peak = re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())
print(len(digests), int(peak[1]) * 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_all_activities_of_a_worker_hash_within_150_mb(tmp_path: Path) -> None:
    durable = json.loads((ROOT / "host.json").read_bytes())["extensions"]["durableTask"]
    at_once = durable["maxConcurrentActivityFunctions"]
    ca = CertificateAuthority.create(tmp_path / "pki")
    with Azurite.start(account="memory", folder=tmp_path / "storage", ca=ca) as azurite:
        azurite.ensure_containers("transfer")
        with azurite.service_client() as service:
            blob = service.get_blob_client("transfer", "001")
            block = os.urandom(PART_BYTES - 1)
            for number in range(PARTS):
                blob.stage_block(f"{number:04d}", bytes([number]) + block)
            blob.commit_block_list([BlobBlock(f"{number:04d}") for number in range(PARTS)])
        done = subprocess.run(
            [sys.executable, "-c", HASH_PARTS, azurite.blob_url, str(PART_BYTES), str(PARTS), str(at_once)],
            cwd=ROOT,
            env={
                "PATH": os.environ["PATH"],
                "TRANSFER_ROLE": "source",
                "REQUESTS_CA_BUNDLE": str(ca.ca_file),
                "TOKEN": TokenAuthority().mint("app", "https://storage.azure.com"),
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    distinct, peak_bytes = map(int, done.stdout.split())
    assert distinct == PARTS
    assert peak_bytes < LIMIT_BYTES


_THREADS = 32
RUN_MOVER = """
import re, sys
from offline_mover.cli import main
code = main(sys.argv[1:])
peak = re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())
print(code, int(peak[1]) * 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("parts", [_THREADS + 2, _THREADS - 1], ids=["many parts", "few, in ranges"])
def test_mover_keeps_to_150_mb_with_as_many_connections_as_help(tmp_path: Path, parts: int) -> None:
    """Over a line on which each connection is slow, so that all of them help."""
    bundle = make_bundle(blob_sizes=(parts * MIN_PART_SIZE_BYTES,))
    (tmp_path / "policy.json").write_bytes(bundle.policy_json)
    (tmp_path / "usb").mkdir()
    ca = CertificateAuthority.create(tmp_path / "pki")
    with Azurite.start(account="memory", folder=tmp_path / "storage", ca=ca) as azurite:
        azurite.ensure_containers("transfer", "incoming")
        with azurite.service_client() as service:
            container = service.get_container_client("transfer")
            for name, content in bundle.blobs.items():
                container.upload_blob(f"{bundle.transfer_id}/{name}", content)
            container.upload_blob(f"{bundle.transfer_id}/{ENVELOPE_NAME}", bundle.envelope)
        volume = str(tmp_path / "usb")
        with run_line(azurite.blob_url, Line(rtt_s=0.02, bytes_per_s=3e6)) as far:
            source, target = f"{far}/transfer/{bundle.transfer_id}", f"{far}/incoming"
            environment = {
                "REQUESTS_CA_BUNDLE": str(ca.ca_file),
                "XDG_STATE_HOME": str(tmp_path / "state"),
                "OFFLINE_MOVER_TRUST": str(tmp_path / "policy.json"),
                "OFFLINE_MOVER_SAS": account_sas(azurite),
            }
            assert peak_of("pull", source, volume, "--allow-system-disk", **environment) < LIMIT_BYTES
            assert peak_of("push", volume, target, **environment) < LIMIT_BYTES


def peak_of(*words: str, **environment: str) -> int:
    """The most bytes resident of a run of the mover with as many connections as it may have."""
    done = subprocess.run(
        [sys.executable, "-c", RUN_MOVER, *words, "--concurrency", str(_THREADS)],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    code, peak_bytes = map(int, done.stdout.splitlines()[-1].split())
    assert code == 0, done.stdout + done.stderr
    return peak_bytes


def account_sas(azurite: Azurite) -> str:
    return generate_account_sas(
        account_name=azurite.account,
        account_key=azurite.key,
        resource_types=ResourceTypes(container=True, object=True),
        permission=AccountSasPermissions(read=True, write=True, create=True, list=True),
        expiry=datetime.now(UTC) + timedelta(hours=1),
    )
