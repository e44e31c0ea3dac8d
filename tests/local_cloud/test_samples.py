import base64
import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from local_cloud.registry.client import Descriptor, RegistryCallError, RegistryClient
from local_cloud.samples import _SAMPLE_KEY, list_digests, push_samples
from tests.local_cloud.registry_harness import BACKENDS, Backend, Harness, digest_of

LAYER_BYTES = 3_000_000
REFERENCES = ["samples/app:1.0", "samples/app:1.1", "charts/hello:0.1.0", "samples/signed:1.0"]


@pytest.fixture(params=BACKENDS)
def harness(tmp_path: Path, request: pytest.FixtureRequest) -> Harness:
    backend: Backend = request.param
    return Harness(tmp_path, backend)


@pytest.fixture
def builtin(tmp_path: Path) -> Harness:
    return Harness(tmp_path, "builtin")


def _login(harness: Harness) -> dict[str, Any]:
    return {
        "username": harness.registry.admin_username,
        "password": harness.registry.admin_password,
        "ca_file": harness.ca.ca_file,
    }


def _client(harness: Harness) -> RegistryClient:
    return RegistryClient(harness.registry.login_server, **_login(harness))


def _push(harness: Harness, layer_bytes_total: int = LAYER_BYTES) -> list[str]:
    login = harness.registry.login_server
    return push_samples(login, **_login(harness), layer_bytes_total=layer_bytes_total)


def _manifest(client: RegistryClient, name: str, reference: str) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(client.manifest(name, reference)[1])
    return fields


def test_the_samples_are_all_there(harness: Harness) -> None:
    def use() -> None:
        references = _push(harness)
        assert references == REFERENCES
        digests = list_digests(harness.registry.login_server, **_login(harness), references=references)
        with _client(harness) as client:
            for reference, digest in digests.items():
                content = client.manifest(*reference.split(":"))[1]
                assert digest_of(content) == digest

    harness.run(use)


def test_the_same_machine_gives_the_same_digests_twice(tmp_path: Path) -> None:
    def use(harness: Harness) -> dict[str, str]:
        references = _push(harness)
        return list_digests(harness.registry.login_server, **_login(harness), references=references)

    one, other = Harness(tmp_path / "one", "builtin"), Harness(tmp_path / "other", "builtin")
    assert one.run(lambda: use(one)) == other.run(lambda: use(other))


def test_the_image_is_what_its_configuration_says(builtin: Harness) -> None:
    def use() -> None:
        _push(builtin)
        layers: dict[str, int] = {}
        with _client(builtin) as client:
            index = _manifest(client, "samples/app", "1.0")
            assert [each["platform"]["architecture"] for each in index["manifests"]] == ["amd64", "arm64"]
            for child in index["manifests"]:
                image = _manifest(client, "samples/app", child["digest"])
                config = builtin.call("GET", f"/v2/samples/app/blobs/{image['config']['digest']}").json()
                assert config["architecture"] == child["platform"]["architecture"]
                for layer, diff_id in zip(image["layers"], config["rootfs"]["diff_ids"], strict=True):
                    _check_layer(builtin, layer, diff_id)
                    layers[layer["digest"]] = layer["size"]
        assert LAYER_BYTES <= sum(layers.values()) < 2 * LAYER_BYTES + 20_000_000

    builtin.run(use)


def _check_layer(harness: Harness, layer: dict[str, Any], diff_id: str) -> None:
    content = harness.call("GET", f"/v2/samples/app/blobs/{layer['digest']}").content
    assert len(content) == layer["size"]
    tarred = gzip.decompress(content) if layer["mediaType"].endswith("+gzip") else content
    assert f"sha256:{hashlib.sha256(tarred).hexdigest()}" == diff_id
    with tarfile.open(fileobj=io.BytesIO(tarred)) as tar:
        assert tar.getnames()


def test_versions_share_their_first_layer(builtin: Harness) -> None:
    def use() -> list[str]:
        _push(builtin)
        first = []
        with _client(builtin) as client:
            for tag in ("1.0", "1.1"):
                child = _manifest(client, "samples/app", tag)["manifests"][0]["digest"]
                first.append(_manifest(client, "samples/app", child)["layers"][0]["digest"])
        return first

    one, other = builtin.run(use)
    assert one == other


def test_the_chart_is_one_that_helm_knows(builtin: Harness) -> None:
    def use() -> None:
        _push(builtin, 0)
        with _client(builtin) as client:
            manifest = _manifest(client, "charts/hello", "0.1.0")
        assert manifest["config"]["mediaType"] == "application/vnd.cncf.helm.config.v1+json"
        (layer,) = manifest["layers"]
        assert layer["mediaType"] == "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
        content = builtin.call("GET", f"/v2/charts/hello/blobs/{layer['digest']}").content
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            assert tar.getnames() == [
                "hello/Chart.yaml",
                "hello/templates/deployment.yaml",
                "hello/values.yaml",
            ]

    builtin.run(use)


def test_the_signature_is_found_from_its_image(harness: Harness) -> None:
    def use() -> None:
        _push(harness, 0)
        with _client(harness) as client:
            image = client.digest("samples/signed", "1.0")
            if harness.backend == "builtin":
                found = harness.call("GET", f"/v2/samples/signed/referrers/{image}").json()["manifests"]
            else:
                found = _manifest(client, "samples/signed", image.replace(":", "-"))["manifests"]
            (descriptor,) = found
            assert descriptor["artifactType"] == "application/vnd.dev.cosign.artifact.sig.v1+json"
            manifest = _manifest(client, "samples/signed", descriptor["digest"])
        assert manifest["subject"]["digest"] == image
        (layer,) = manifest["layers"]
        payload = harness.call("GET", f"/v2/samples/signed/blobs/{layer['digest']}").content
        assert json.loads(payload)["critical"]["image"]["docker-manifest-digest"] == image
        signature = base64.b64decode(layer["annotations"]["dev.cosignproject.cosign/signature"])
        _SAMPLE_KEY.public_key().verify(signature, payload)

    harness.run(use)


def test_pushing_again_changes_nothing(harness: Harness) -> None:
    def use() -> None:
        _push(harness, 0)
        with _client(harness) as client:
            image = client.digest("samples/signed", "1.0")
            _push(harness, 0)
            assert client.digest("samples/signed", "1.0") == image
            if harness.backend != "builtin":
                assert len(_manifest(client, "samples/signed", image.replace(":", "-"))["manifests"]) == 1

    harness.run(use)


def test_a_wrong_password_or_an_absent_tag_is_reported(builtin: Harness) -> None:
    def use() -> None:
        server = builtin.registry.login_server
        with pytest.raises(RegistryCallError, match="401") as refused:
            push_samples(server, **(_login(builtin) | {"password": "guess"}))
        assert "guess" not in str(refused.value)
        with pytest.raises(RegistryCallError) as absent:
            list_digests(server, **_login(builtin), references=["samples/app:9"])
        assert absent.value.status == 404

    builtin.run(use)


def test_a_blob_that_is_not_its_digest_is_refused(builtin: Harness) -> None:
    def use() -> None:
        descriptor = Descriptor(media_type="x", digest=digest_of(b"good"), size_bytes=4)
        with _client(builtin) as client:
            with pytest.raises(RegistryCallError, match="DIGEST_INVALID"):
                client.push_blob("app", io.BytesIO(b"evil"), descriptor)
            assert client.push_blob("app", io.BytesIO(b"good"), descriptor)
            assert not client.push_blob("app", io.BytesIO(b"good"), descriptor)
            empty = Descriptor(media_type="x", digest=digest_of(b""), size_bytes=0)
            assert client.push_blob("app", io.BytesIO(b""), empty)

    builtin.run(use)
