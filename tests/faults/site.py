"""Everything a case needs: a real storage behind a proxy, the command, and scenes to play a fault in."""

from __future__ import annotations

import base64
import itertools
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Self

from azure.storage.blob import BlobServiceClient, generate_container_sas

from airgap.manifest import ENVELOPE_NAME
from airgap.media_plan import SavedPlan
from airgap.parity import ParityLayout
from airgap.parts import MIN_PART_SIZE_BYTES
from local_cloud.azurite import Azurite
from local_cloud.pki import CertificateAuthority
from tests.bundles import Bundle, make_bundle
from tests.faults.audit import (
    TargetState,
    VolumeState,
    look_at_target,
    look_at_volume,
    wrong_on_volumes,
)
from tests.faults.injection import Injection
from tests.faults.mover import NOTHING, Mover, Run
from tests.faults.proxy import Asked, Proxy
from tests.faults.tally import Tally

IS_FULL = os.environ.get("AIRGAP_FAULTS") == "all"
"""``./dev faults`` kills at every step; a run of all tests at an even sample of them."""

SAMPLE = 20
"""For each command; several cases of one command share it."""
SMALL_PARTS = 10
MANY_PARTS = 150 if IS_FULL else 100


def sampled(count: int, *, cases: int = 1) -> list[int]:
    """Steps to be killed at: every one, or an even sample where ``cases`` tests share a command."""
    most = SAMPLE // cases
    if IS_FULL or count <= most:
        return list(range(1, count + 1))
    return sorted({1 + round(index * (count - 1) / (most - 1)) for index in range(most)})


def again_and_again(most: int) -> Iterator[int]:
    """How many steps further one run after another gets until it is killed; bounded.

    With ``./dev faults`` that is 1 to ``most``, all of them in turn, so that they die in every kind of step.
    """
    if IS_FULL:
        yield from (1 + 7 * number % most for number in range(2000))
    else:
        yield from range(250, 10001, 250)


def blob_sizes(small_parts: int) -> list[int]:
    """One blob of two parts, and many of one small part each: parts that cost nothing."""
    return [MIN_PART_SIZE_BYTES + 9000, *(700 + 613 * number for number in range(small_parts))]


@dataclass(kw_only=True)
class Site:
    """A storage account, the proxy before it, and the command."""

    azurite: Azurite
    service: BlobServiceClient
    proxy: Proxy
    mover: Mover
    folder: Path
    tally: Tally
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @classmethod
    @contextmanager
    def start(cls, folder: Path, tally: Tally) -> Iterator[Self]:
        """All of it, for as long as the block lasts."""
        ca = CertificateAuthority.create(folder / "pki")
        with (
            Azurite.start(account="carried", folder=folder / "azurite", ca=ca) as azurite,
            azurite.service_client() as service,
            Proxy.start(azurite.blob_url, ca) as proxy,
            Mover.start(folder / "runs", ca.ca_file) as mover,
        ):
            azurite.ensure_containers("transfer")
            yield cls(azurite=azurite, service=service, proxy=proxy, mover=mover, folder=folder, tally=tally)

    @cached_property
    def bundle(self) -> Bundle:
        """A dozen parts, uploaded."""
        return self.uploaded(make_bundle(blob_sizes=blob_sizes(SMALL_PARTS)))

    @cached_property
    def big_bundle(self) -> Bundle:
        """Some hundred parts, uploaded."""
        return self.uploaded(make_bundle(transfer_id="hundred0parts", blob_sizes=blob_sizes(MANY_PARTS)))

    def uploaded(self, bundle: Bundle) -> Bundle:
        """What a finished export leaves in ``transfer``."""
        for name, content in (*bundle.blobs.items(), (ENVELOPE_NAME, bundle.envelope)):
            blob = self.service.get_blob_client("transfer", f"{bundle.transfer_id}/{name}")
            blob.upload_blob(content, overwrite=True)
        return bundle

    def sas_file(self, container: str) -> Path:
        """All that a mover needs in a container."""
        path = self.folder / f"{container}.sas"
        if not path.exists():
            token = generate_container_sas(
                self.azurite.account,
                container,
                account_key=self.azurite.key,
                permission="rcwl",
                expiry=datetime.now(UTC) + timedelta(hours=6),
            )
            path.write_text(token)
        return path

    def new_name(self, prefix: str) -> str:
        """Of a container or a folder."""
        return f"{prefix}{next(self._numbers)}"

    @contextmanager
    def scene(self, bundle: Bundle | None = None, *, volumes: int = 1) -> Iterator[Scene]:
        """One transfer, some empty volumes, an empty container; the folders are gone afterwards."""
        folder = self.folder / self.new_name("scene")
        scene = Scene(site=self, bundle=bundle or self.bundle, folder=folder)
        for number in range(1, volumes + 1):
            scene.add_volume(f"usb{number}")
        (folder / "policy.json").write_bytes(scene.bundle.policy_json)
        try:
            yield scene
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@dataclass(kw_only=True)
class Scene:
    """A transfer on its way. Each run of the command is judged by what is really there afterwards."""

    site: Site
    bundle: Bundle
    folder: Path
    volumes: list[Path] = field(default_factory=list)
    options: tuple[str, ...] = ("--concurrency", "2")
    tally: Tally | None = None
    planted: frozenset[str] = frozenset()
    """Names of wrong blobs that the test itself put into the container."""
    on_system_disk: bool = True
    """The volumes are folders that stand in for media, and the command is told so."""
    target_state: TargetState | None = None
    """As the last push left it."""
    _container: str = ""

    # --- the stage -------------------------------------------------------------------------------------

    def add_volume(self, name: str) -> Path:
        """Another empty one."""
        path = self.folder / name
        path.mkdir(parents=True)
        self.volumes.append(path)
        return path

    def clear(self) -> None:
        """Empty every volume."""
        for volume in self.volumes:
            shutil.rmtree(volume)
            volume.mkdir()

    def load(self, others: Sequence[Path]) -> None:
        """Make the volumes copies of other ones."""
        for volume, other in zip(self.volumes, others, strict=True):
            shutil.rmtree(volume)
            shutil.copytree(other, volume, symlinks=True)

    def bag(self, number: int = 0) -> Path:
        """The transfer's folder on a volume."""
        return self.volumes[number] / self.bundle.transfer_id

    def part(self, name: str, number: int = 0) -> Path:
        """``001/00000001.part`` on a volume."""
        return self.bag(number) / "data" / name

    @property
    def container(self) -> str:
        """Of the target; made when it is first asked for."""
        if not self._container:
            self.new_container()
        return self._container

    def new_container(self) -> None:
        """Push into an empty one from now on."""
        self._container = self.site.new_name("incoming")
        self.site.azurite.ensure_containers(self._container)

    def plan_file(self, parity_shards: int = 0) -> str:
        """A plan that deals the parts out over the volumes; the last one has the parity shards, if any."""
        names = [part.name for part in self.bundle.parts]
        count = len(self.volumes) - (1 if parity_shards else 0)
        share = -(-len(names) // count)  # runs of neighbours, as plan makes them: never two of one stripe
        dealt = [tuple(sorted(names[number * share :][:share])) for number in range(count)]
        layout = None
        if parity_shards:
            layout = ParityLayout(stripes=len(dealt[0]), parity_shards=parity_shards)
            dealt.append(tuple(sorted(name for name, _ in layout.shards(self.bundle.manifest))))
        plan = SavedPlan(
            transfer_id=self.bundle.transfer_id,
            manifest_sha256=self.bundle.manifest_sha256,
            volumes=tuple(dealt),
            layout=layout,
        )
        path = self.folder / "plan.json"
        path.write_bytes(plan.to_bytes())
        return str(path)

    # --- what is really there --------------------------------------------------------------------------

    def state(self, number: int = 0) -> VolumeState:
        """Of a volume."""
        return look_at_volume(self.bundle, self.volumes[number])

    @property
    def whole(self) -> frozenset[str]:
        """Parts that are whole on some volume."""
        return frozenset().union(*(look_at_volume(self.bundle, v).whole for v in self.volumes))

    @property
    def all_parts(self) -> frozenset[str]:
        """Their names."""
        return frozenset(part.name for part in self.bundle.parts)

    def target(self) -> TargetState:
        """Of the container."""
        return look_at_target(self.bundle, self.site.service, self.container)

    # --- the command -----------------------------------------------------------------------------------

    def pull(self, *extra: str, injection: Injection = NOTHING) -> Run:
        """Judged: OK means that every part is on a volume, whole."""
        run = self._run(
            "pull",
            f"{self.site.proxy.url}/transfer/{self.bundle.transfer_id}",
            *map(str, self.volumes),
            *("--sas-file", str(self.site.sas_file("transfer")), *self._folders, *extra),
            injection=injection,
        )
        wrongs = wrong_on_volumes(self.bundle, self.volumes, is_partial="--recarry" in extra)
        self._judge("pull", run, wrongs)
        return run

    def verify(
        self, *extra: str, volumes: Iterable[Path] | None = None, injection: Injection = NOTHING
    ) -> Run:
        """Judged: OK means that every part is there, whole, and nothing else; or, with 57, what is there."""
        shown = list(self.volumes if volumes is None else volumes)
        run = self._run("verify", *map(str, shown), *extra, injection=injection)
        is_partial = run.result.get("code") == "VOLUME_MISSING"
        wrongs = wrong_on_volumes(self.bundle, shown, is_partial=is_partial)
        self._judge("verify", run, wrongs, says_ok=run.status == 0 or is_partial)
        return run

    def push(self, *extra: str, volumes: Iterable[Path] | None = None, injection: Injection = NOTHING) -> Run:
        """Judged: whatever is visible is right, nothing is published half; OK means that all is there."""
        run = self._run(
            "push",
            *map(str, self.volumes if volumes is None else volumes),
            f"{self.site.proxy.url}/{self.container}",
            *("--sas-file", str(self.site.sas_file(self.container)), *extra),
            injection=injection,
        )
        self.target_state = self.target()
        wrongs = self.target_state.wrongs(self.bundle, is_done=run.status == 0)
        if run.status != 0:
            wrongs = [wrong for wrong in wrongs if wrong.split()[0] not in self.planted]
        self._judge("push", run, wrongs, says_ok=True)
        return run

    def repair(self, *extra: str, volumes: Sequence[Path], injection: Injection = NOTHING) -> Run:
        """Judged: OK means that every part is whole, on these volumes or the patch."""
        run = self._run("repair", *map(str, volumes), *self._folders, *extra, injection=injection)
        self._judge("repair", run, wrong_on_volumes(self.bundle, self.volumes))
        return run

    @property
    def _folders(self) -> tuple[str, ...]:
        return ("--allow-system-disk",) if self.on_system_disk else ()

    def _run(self, *arguments: str, injection: Injection) -> Run:
        custody = self.folder / "custody"
        return self.site.mover.run(
            *arguments,
            *("--trust", str(self.folder / "policy.json"), "--custody-dir", str(custody)),
            *self.options,
            injection=injection,
        )

    def _judge(self, what: str, run: Run, wrongs: list[str], *, says_ok: bool | None = None) -> None:
        tally = self.tally or self.site.tally
        tally.judge(what, wrongs, says_ok=run.status == 0 if says_ok is None else says_ok)

    # --- what was asked of the storage -----------------------------------------------------------------

    def fetched(self, asked: Iterable[Asked]) -> list[str]:
        """Names of the parts whose first bytes were asked for, as often as they were: few come in ranges."""
        starts = {
            (f"{self.bundle.transfer_id}/{part.blob}", part.offset_bytes): part.name
            for part in self.bundle.parts
        }
        ranges = [request for request in asked if request.method == "GET" and request.range]
        begun = [(one.blob, int(one.range.removeprefix("bytes=").split("-")[0])) for one in ranges]
        return sorted(starts[one] for one in begun if one in starts)

    def sent(self, asked: Iterable[Asked]) -> list[tuple[str, str]]:
        """Blob and block id of the blocks that were sent, as often as they were."""
        return sorted(
            (request.blob, base64.b64decode(request.block_id).decode())
            for request in asked
            if request.method == "PUT" and request.comp == "block"
        )
