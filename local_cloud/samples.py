"""Artifacts to try a transfer with: an image for two architectures, a Helm chart, a signed image.

They are made of real files of the running Python, in fixed order with fixed times and owners, so that the
same machine gives the same digests twice.
"""

import base64
import gzip
import hashlib
import io
import itertools
import json
import os
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from local_cloud.registry.client import Descriptor, RegistryClient
from local_cloud.registry.manifests import OCI_INDEX, OCI_MANIFEST

_CONFIG = "application/vnd.oci.image.config.v1+json"
_EMPTY = "application/vnd.oci.empty.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_HELM_CONFIG = "application/vnd.cncf.helm.config.v1+json"
_HELM_CHART = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
_SIGNATURE = "application/vnd.dev.cosign.artifact.sig.v1+json"
_SIGNED_PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"

_ARCHITECTURES = ("amd64", "arm64")
_LAYERS_PER_ARCHITECTURE = 2
_BASE_BYTES = 2_000_000
_CREATED = "2026-01-01T00:00:00Z"
_TAR_BLOCK_BYTES = 512
_MAX_FILE_BYTES = 4_000_000  # so that layers come out near the size asked for
_LEFT_OUT = {"__pycache__", "site-packages"}  # one is rewritten as Python runs, the other has its own turn

# Not a secret: its public half is of use to nobody, and a random one would change digests with each run.
_SAMPLE_KEY = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"key of the sample signature").digest())

_CHART = {
    "apiVersion": "v2",
    "name": "hello",
    "description": "Serves the sample image",
    "type": "application",
    "version": "0.1.0",
    "appVersion": "1.0",
}
_CHART_FILES = {
    "hello/Chart.yaml": "".join(f'{key}: "{value}"\n' for key, value in _CHART.items()),
    "hello/values.yaml": 'image: samples/app\ntag: "1.0"\nreplicas: 1\n',
    "hello/templates/deployment.yaml": """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .Release.Name }}
spec:
  replicas: {{ .Values.replicas }}
  selector:
    matchLabels: {app: {{ .Release.Name }}}
  template:
    metadata:
      labels: {app: {{ .Release.Name }}}
    spec:
      containers:
        - name: hello
          image: "{{ .Values.image }}:{{ .Values.tag }}"
""",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layer:
    descriptor: Descriptor
    diff_id: str  # digest of the layer as a tar, uncompressed


def push_samples(
    login_server: str,
    *,
    username: str,
    password: str,
    ca_file: Path | str,
    layer_bytes_total: int = 30_000_000,
) -> list[str]:
    """Build the samples and push them; returns their references.

    The layers of ``samples/app:1.0``, each counted once, have at least `layer_bytes_total` bytes.

    Raises:
        RegistryCallError: The registry refuses.
    """
    with RegistryClient(login_server, username=username, password=password, ca_file=ca_file) as client:
        return [
            *_push_app(client, layer_bytes_total),
            _push_chart(client),
            _push_signed(client),
        ]


def push_small_images(
    login_server: str, *, username: str, password: str, ca_file: Path | str, count: int
) -> list[str]:
    """Pushes so many images of one small file each and returns their references.

    Raises:
        RegistryCallError: The registry refuses.
    """
    name = "samples/small"
    with RegistryClient(login_server, username=username, password=password, ca_file=ca_file) as client:
        for number in range(count):
            layer = _push_layer(client, name, [("etc/version", f"{number}\n".encode())], compressed=True)
            _push_image(client, name, "amd64", [layer], str(number))
    return [f"{name}:{number}" for number in range(count)]


def list_digests(
    login_server: str, *, username: str, password: str, ca_file: Path | str, references: Iterable[str]
) -> dict[str, str]:
    """Returns the digest each reference (``repo:tag`` or ``repo@sha256:...``) stands for, following nothing.

    Raises:
        RegistryCallError: The registry does not have one of them.
    """
    with RegistryClient(login_server, username=username, password=password, ca_file=ca_file) as client:
        return {reference: client.digest(*_split(reference)) for reference in references}


def _split(reference: str) -> tuple[str, str]:
    name, at, digest = reference.partition("@")
    if at:
        return name, digest
    name, _, tag = reference.rpartition(":")
    return name, tag


def _push_app(client: RegistryClient, layer_bytes_total: int) -> list[str]:
    """Pushes two versions that share their first layer: the second one is that and one small file."""
    name = "samples/app"
    files = _real_files()
    base = _push_layer(client, name, _take(files, _BASE_BYTES), compressed=True)
    each_bytes = layer_bytes_total // (len(_ARCHITECTURES) * _LAYERS_PER_ARCHITECTURE) + 1
    large = {
        architecture: [base]
        + [_push_layer(client, name, _take(files, each_bytes)) for _ in range(_LAYERS_PER_ARCHITECTURE)]
        for architecture in _ARCHITECTURES
    }
    small = {
        architecture: [base, _push_layer(client, name, [("etc/version", f"1.1 {architecture}\n".encode())])]
        for architecture in _ARCHITECTURES
    }
    return [_push_index(client, name, "1.0", large), _push_index(client, name, "1.1", small)]


def _push_index(client: RegistryClient, name: str, tag: str, images: Mapping[str, list[_Layer]]) -> str:
    manifests = [
        _push_image(client, name, architecture, layers).to_json(
            platform={"architecture": architecture, "os": "linux"}
        )
        for architecture, layers in images.items()
    ]
    client.push_manifest(name, {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}, tag)
    return f"{name}:{tag}"


def _push_image(
    client: RegistryClient, name: str, architecture: str, layers: list[_Layer], tag: str | None = None
) -> Descriptor:
    config = {
        "created": _CREATED,
        "architecture": architecture,
        "os": "linux",
        "config": {"Cmd": ["/usr/bin/python3"], "Labels": {"org.opencontainers.image.title": name}},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
    }
    return client.push_manifest(
        name,
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": _push_bytes(client, name, _json(config), _CONFIG).to_json(),
            "layers": [layer.descriptor.to_json() for layer in layers],
        },
        tag,
    )


def _push_chart(client: RegistryClient) -> str:
    name, tag = f"charts/{_CHART['name']}", _CHART["version"]
    files = [(path, text.encode()) for path, text in sorted(_CHART_FILES.items())]
    layer = _push_layer(client, name, files, compressed=True, media_type=_HELM_CHART)
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": _push_bytes(client, name, _json(_CHART), _HELM_CONFIG).to_json(),
        "layers": [layer.descriptor.to_json()],
        "annotations": {
            "org.opencontainers.image.title": _CHART["name"],
            "org.opencontainers.image.version": _CHART["version"],
            "org.opencontainers.image.description": _CHART["description"],
        },
    }
    client.push_manifest(name, manifest, tag)
    return f"{name}:{tag}"


def _push_signed(client: RegistryClient) -> str:
    """Pushes a small image and, with the image for its subject, a signature in cosign's format."""
    name, tag = "samples/signed", "1.0"
    layer = _push_layer(client, name, [("etc/version", b"1.0 signed\n")], compressed=True)
    image = _push_image(client, name, "amd64", [layer], tag)
    payload = _json(
        {
            "critical": {
                "identity": {"docker-reference": name},
                "image": {"docker-manifest-digest": image.digest},
                "type": "cosign container image signature",
            },
            "optional": None,
        }
    )
    signature = base64.b64encode(_SAMPLE_KEY.sign(payload)).decode()
    signed = _push_bytes(client, name, payload, _SIGNED_PAYLOAD)
    client.push_manifest(
        name,
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": _SIGNATURE,
            "config": _push_bytes(client, name, b"{}", _EMPTY).to_json(),
            "layers": [signed.to_json(annotations={"dev.cosignproject.cosign/signature": signature})],
            "subject": image.to_json(),
        },
    )
    return f"{name}:{tag}"


def _push_bytes(client: RegistryClient, name: str, content: bytes, media_type: str) -> Descriptor:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    descriptor = Descriptor(media_type=media_type, digest=digest, size_bytes=len(content))
    client.push_blob(name, io.BytesIO(content), descriptor)
    return descriptor


_Member = tuple[str, Path | bytes]


def _push_layer(
    client: RegistryClient,
    name: str,
    members: Iterable[_Member],
    *,
    compressed: bool = False,
    media_type: str | None = None,
) -> _Layer:
    """Writes `members` to a tar in a temporary file, hashing as it goes, and pushes it from there."""
    with tempfile.TemporaryFile() as file:
        stored = _HashingWriter(file)
        if compressed:
            with gzip.GzipFile(filename="", mode="wb", fileobj=stored, mtime=0, compresslevel=6) as zipped:
                tarred = _HashingWriter(zipped)
                _write_tar(tarred, members)
        else:
            tarred = stored
            _write_tar(tarred, members)
        descriptor = Descriptor(
            media_type=media_type or (_LAYER + "+gzip" if compressed else _LAYER),
            digest=stored.digest,
            size_bytes=stored.size_bytes,
        )
        client.push_blob(name, file, descriptor)
    return _Layer(descriptor=descriptor, diff_id=tarred.digest)


class _HashingWriter(io.RawIOBase):
    """Passes on what is written and keeps its digest and size."""

    def __init__(self, target: BinaryIO | gzip.GzipFile) -> None:
        super().__init__()
        self._target = target
        self._sha256 = hashlib.sha256()
        self.size_bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, piece: Any) -> int:
        self._sha256.update(piece)
        self.size_bytes += len(piece)
        self._target.write(piece)
        return len(piece)

    @property
    def digest(self) -> str:
        return f"sha256:{self._sha256.hexdigest()}"


def _write_tar(target: _HashingWriter, members: Iterable[_Member]) -> None:
    with tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for name, source in members:
            header = tarfile.TarInfo(name)  # mode 0644, root, the epoch
            with source.open("rb") if isinstance(source, Path) else io.BytesIO(source) as stream:
                header.size = stream.seek(0, io.SEEK_END)
                stream.seek(0)
                tar.addfile(header, stream)


def _real_files() -> Iterator[_Member]:
    """Yields the standard library's and the installed packages' files, in order, again and again.

    Raises:
        FileNotFoundError: There is not one.
    """
    roots = [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib")]
    for copy in itertools.count(1):
        found = False
        for root in roots:
            for path in _files_below(root):
                found = True
                yield f"copy-{copy}/{root.name}/{path.relative_to(root).as_posix()}", path
        if not found:
            raise FileNotFoundError("no files to make layers of")


def _files_below(root: Path) -> Iterator[Path]:
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(set(subfolders) - _LEFT_OUT)
        for name in sorted(names):
            path = Path(folder, name)
            if not path.is_symlink() and path.is_file() and path.stat().st_size <= _MAX_FILE_BYTES:
                yield path


def _take(files: Iterator[_Member], tar_bytes: int) -> Iterator[_Member]:
    """Yields of `files` as many as make a tar of at least `tar_bytes`."""
    taken_bytes = 0
    for name, source in files:
        size_bytes = source.stat().st_size if isinstance(source, Path) else len(source)
        taken_bytes += size_bytes + _TAR_BLOCK_BYTES
        yield name, source
        if taken_bytes >= tar_bytes:
            return


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
