"""The scan for all that belongs to an artifact: the manifests in an index, and referrers of either."""

from dataclasses import dataclass, field

from airgap.errors import Code, PolicyRefusal, ServiceError
from airgap.manifest import MAX_ARTIFACTS, Artifact
from function_app.oci import MAX_DEPTH, Descriptor, content_sizes, find_obstacle, list_manifests, platforms
from function_app.ports import RegistryReader
from function_app.source.referrers import NONE, Selection, kind_of

_COSIGN_SUFFIXES = (".sig", ".att", ".sbom")
"""What cosign adds to ``sha256-<hex>`` where it does not use referrers.

https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Content:
    """What a manifest consists of, with all that it lists: sizes in bytes by digest, and what it is for."""

    sizes: dict[str, int]
    platforms: tuple[str, ...]


_MOST_TOGETHER = 20_000
"""Manifests that one scan looks at: what is found is one document, and in memory."""


@dataclass(slots=True)
class Scan:
    """A walk from artifacts to all that belongs to them: an index's manifests, and referrers of either.

    Each manifest is looked at once. What is found is in ``artifacts`` by reference, in order of discovery,
    and in ``tagged`` for each reference by tag when that was written last; referrers of kinds that are not
    wanted are in ``left`` with their kinds. ``content`` and ``platforms`` tell of each artifact what it
    consists of, as :class:`~function_app.source.wire.Resolution` has it.
    """

    registry: RegistryReader
    selection: Selection
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    tagged: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    content: dict[str, dict[str, int]] = field(default_factory=dict)
    platforms: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _seen: dict[tuple[str, str], _Content] = field(default_factory=dict)
    _refused: dict[tuple[str, str], PolicyRefusal] = field(default_factory=dict)
    """Why what was looked at cannot cross: whoever comes to it again is told the same."""
    _before: int = 0
    """How many manifests were counted before the reference that is being looked at."""

    @property
    def _counted(self) -> int:
        return len(self._seen) + len(self.left)

    def add(self, reference: str) -> bool:
        """Include an artifact and all its referrers; returns whether the registry has it.

        Raises:
            PolicyRefusal: ``ARTIFACT_REFUSED``: a layer cannot cross, a manifest that a tag or an index
                names is not there, or there is no end to it: over 5,000 manifests belong to one reference,
                or over 20,000 to all that were added.
        """
        self._before = self._counted
        repository, tag, digest = split_reference(reference)
        found = self._look_up(repository, tag) if tag else self.registry.resolve(repository, digest)
        if found is None:
            if reference in self.tagged:
                raise PolicyRefusal(Code.ARTIFACT_REFUSED, f"{reference}: the tag's manifest is not there")
            return False
        self.artifacts[reference] = Artifact(
            reference=reference,
            digest=found.digest,
            media_type=found.media_type,
            tags=(tag,) if tag else (),
        )
        self._tell(reference, self._follow(repository, found.digest, depth=0))
        return True

    def renew(self, member: Artifact) -> bool:
        """Include again an artifact that points elsewhere now; returns whether the registry has it.

        Raises as :meth:`add`.
        """
        self._before = self._counted
        if member.subject is None:
            return self.add(member.reference)
        self._include_referrers(member.repository, member.subject, depth=0)
        return True

    def _look_up(self, repository: str, tag: str) -> Descriptor | None:
        """What a tag stands for, if it is there.

        Its state comes first, so that a write to it after this moment is seen when the run has ended.
        """
        state = self.registry.tag(repository, tag)
        if state is None:
            return None
        self.tagged.setdefault(f"{repository}:{tag}", state.written_at)
        return self.registry.resolve(repository, state.digest)

    def _tell(self, reference: str, content: _Content) -> None:
        self.content[reference] = content.sizes
        if content.platforms:
            self.platforms[reference] = content.platforms

    def _follow(self, repository: str, digest: str, *, depth: int) -> _Content:
        where = (repository, digest)
        if (before := self._refused.get(where)) is not None:
            raise PolicyRefusal(before.code, before.detail)
        if (known := self._seen.get(where)) is not None:
            return known
        try:
            return self._walk(repository, digest, depth=depth)
        except PolicyRefusal as refusal:
            self._refused[where] = refusal
            raise

    def _walk(self, repository: str, digest: str, *, depth: int) -> _Content:
        self._seen[repository, digest] = _Content(sizes={}, platforms=())  # counts, whatever comes of it
        about = f"{repository}@{digest}"
        self._require_end(about, depth)
        try:
            manifest = self.registry.manifest(repository, digest)
        except ServiceError as error:
            if error.code is not Code.NOT_FOUND:
                raise
            raise PolicyRefusal(Code.ARTIFACT_REFUSED, f"{about}: the manifest is not there") from error
        if obstacle := find_obstacle(manifest, about):
            raise PolicyRefusal(Code.ARTIFACT_REFUSED, f"{about}: {obstacle}")
        found = _Content(sizes=content_sizes(manifest, about), platforms=platforms(manifest, about))
        self._seen[repository, digest] = found
        for child in list_manifests(manifest, about):
            found.sizes.update(self._follow(repository, child.digest, depth=depth + 1).sizes)
        self._include_referrers(repository, digest, depth=depth)
        return found

    def _require_end(self, about: str, depth: int = 0) -> None:
        """Refuse what has no end: somebody may attach any number of things to things."""
        if depth > MAX_DEPTH or self._counted - self._before > MAX_ARTIFACTS:
            raise PolicyRefusal(
                Code.ARTIFACT_REFUSED,
                f"{about}: nested over {MAX_DEPTH} deep or over {MAX_ARTIFACTS} manifests",
            )
        if self._counted > _MOST_TOGETHER:
            raise PolicyRefusal(
                Code.ARTIFACT_REFUSED,
                f"{about}: over {_MOST_TOGETHER} manifests with those before it: order fewer of them at once",
            )

    def _include_referrers(self, repository: str, digest: str, *, depth: int) -> None:
        """Include what refers to ``digest`` and is wanted: by the referrers API, or by the referrers tag.

        That tag travels as well, or the far side would not find its referrers; an index brings along all that
        it lists, so it travels only with all of them.
        OCI distribution-spec 1.1 §Listing Referrers, §Referrers Tag Schema.
        """
        if self.selection.wanted == NONE:
            return
        tag = digest.replace(":", "-")
        listed, index = self.registry.referrers(repository, digest), None
        if listed is None:
            index = self._look_up(repository, tag)
            about = f"{repository}:{tag}"
            listed = list_manifests(self.registry.manifest(repository, index.digest), about) if index else []
        are_taken = [
            self._include_referrer(repository, one.digest, subject=digest, depth=depth) for one in listed
        ]
        if index is not None:
            self._take(f"{repository}:{tag}", index, index.media_type, digest, is_wanted=all(are_taken))
        for suffix in _COSIGN_SUFFIXES:
            if (found := self._look_up(repository, tag + suffix)) is not None:
                manifest = self.registry.manifest(repository, found.digest)
                kind = kind_of(manifest, found.media_type)
                reference = f"{repository}:{tag}{suffix}"
                self._take(reference, found, kind, digest, is_wanted=self.selection.takes(kind))
                self.content[reference] = self.content.get(reference) or content_sizes(manifest, reference)

    def _include_referrer(self, repository: str, listed: str, *, subject: str, depth: int) -> bool:
        """Include one referrer, if it is wanted, with its own; whether nothing of it is left behind."""
        found = self.registry.resolve(repository, listed)
        if found is None:  # an index under a tag may list what was deleted
            return True
        kind = kind_of(self.registry.manifest(repository, found.digest), found.media_type)
        is_wanted = self.selection.takes(kind)
        reference = f"{repository}@{found.digest}"
        self._take(reference, found, kind, subject, is_wanted=is_wanted)
        if is_wanted:
            self._tell(reference, self._follow(repository, found.digest, depth=depth + 1))
        return is_wanted

    def _take(self, reference: str, found: Descriptor, kind: str, subject: str, *, is_wanted: bool) -> None:
        """Put a referrer among what travels or what is left, unless it was ordered by itself."""
        _, tag, _ = split_reference(reference)
        if not is_wanted:
            self.left.setdefault(reference, kind)
            self._require_end(reference)
            return
        self.content.setdefault(reference, {})
        self.artifacts.setdefault(
            reference,
            Artifact(
                reference=reference,
                digest=found.digest,
                media_type=found.media_type,
                tags=(tag,) if tag else (),
                artifact_type=kind,
                subject=subject,
            ),
        )


def split_reference(reference: str) -> tuple[str, str, str]:
    """The repository, tag and digest of ``repo:tag`` or ``repo@digest``; the absent one is empty."""
    if "@" in reference:
        repository, _, digest = reference.partition("@")
        return repository, "", digest
    repository, _, tag = reference.partition(":")
    return repository, tag, ""
