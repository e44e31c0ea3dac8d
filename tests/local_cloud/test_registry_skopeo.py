"""A client that is not ours: skopeo pushes and pulls, with the admin user's name and password."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.local_cloud.registry_harness import (
    BACKENDS,
    MANIFEST,
    Backend,
    Harness,
    digest_of,
    image_manifest,
    needs,
)

pytestmark = needs("skopeo")
CONFIG = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'


@pytest.fixture(params=BACKENDS)
def harness(tmp_path: Path, request: pytest.FixtureRequest) -> Harness:
    backend: Backend = request.param
    return Harness(tmp_path, backend)


def _write_layout(folder: Path) -> str:
    """An OCI image layout with one image; returns the image's digest."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    manifest = image_manifest(CONFIG, b"layer")
    for content in (CONFIG, b"layer", manifest):
        (blobs / digest_of(content).removeprefix("sha256:")).write_bytes(content)
    name = {"org.opencontainers.image.ref.name": "sample"}
    descriptor = {
        "mediaType": MANIFEST,
        "digest": digest_of(manifest),
        "size": len(manifest),
        "annotations": name,
    }
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [descriptor]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    return digest_of(manifest)


def _skopeo(harness: Harness, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "SSL_CERT_FILE": str(harness.ca.ca_file)}
    return subprocess.run(
        ["skopeo", *arguments],  # noqa: S607 - wherever the distribution has it
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_skopeo_pushes_and_pulls_with_digests_preserved(harness: Harness) -> None:
    digest = _write_layout(harness.folder / "layout")

    def use() -> None:
        image = f"docker://{harness.registry.login_server}/samples/app:1.0"
        credentials = f"{harness.registry.admin_username}:{harness.registry.admin_password}"
        pushed = _skopeo(
            harness,
            "copy",
            "--preserve-digests",
            "--dest-creds",
            credentials,
            f"oci:{harness.folder}/layout:sample",
            image,
        )
        assert pushed.returncode == 0, pushed.stderr
        pulled = _skopeo(harness, "copy", "--src-creds", credentials, image, f"dir:{harness.folder}/pulled")
        assert pulled.returncode == 0, pulled.stderr
        listed = _skopeo(harness, "list-tags", "--creds", credentials, image.removesuffix(":1.0"))
        assert json.loads(listed.stdout)["Tags"] == ["1.0"]

    harness.run(use)
    assert digest_of((harness.folder / "pulled" / "manifest.json").read_bytes()) == digest


def test_skopeo_with_a_wrong_password_is_refused(harness: Harness) -> None:
    def use() -> subprocess.CompletedProcess[str]:
        image = f"docker://{harness.registry.login_server}/samples/app:1.0"
        return _skopeo(harness, "inspect", "--creds", f"{harness.registry.admin_username}:guess", image)

    refused = harness.run(use)
    assert refused.returncode != 0
    assert "authentication required" in refused.stderr or "wrong user name or password" in refused.stderr
