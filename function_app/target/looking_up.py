"""The looking up of artifacts in a registry: is each there as signed, with all its content?

Asked for, by digest, are its manifest, every manifest in an index, and the config and layers of each; whether
the registry lists it as a referrer of what it belongs to; and its tags. Foreign layers are not looked for:
they are in no registry by design, and the source lets none cross.

A group of artifacts is looked up in steps of a bounded size, whatever an index holds: what is left is noted,
and the next step goes on there.
"""

from dataclasses import dataclass, field

from airgap.errors import Code, PolicyRefusal, ServiceError
from airgap.manifest import MAX_ARTIFACTS, Artifact
from airgap.receipt import MAX_MISSING_CONTENTS, ArtifactProof, MissingContent
from function_app.oci import MAX_DEPTH, Contents, read_contents
from function_app.ports import RegistryReader
from function_app.storage.work_folder import WorkFolder
from function_app.target.admission import declared_folder
from function_app.target.wire import Declared, LookUpNote, Proofs, WalkNote

REQUESTS_AT_ONCE = 1000
"""Of one step, but for the tags of its last artifact. ACR Premium answers 10,000 reads a minute:
https://learn.microsoft.com/azure/container-registry/container-registry-skus"""

MANIFESTS_AT_ONCE = 100
"""Of one step: at most 400 MiB, since a manifest has at most 4 MiB; one at a time is in memory."""

_BEGUN = "looking-up/"
_MANIFEST, _REFERRER = "manifest", "referrer"


def look_up(registry: RegistryReader, work: WorkFolder, declared: str, folder: str) -> bool:
    """Go on asking a registry for a group of artifacts; returns whether all of them are answered.

    Args:
        registry: the registry that is asked.
        work: the work folder with the document ``declared``, a group of artifacts as signed.
        declared: the name of that document.
        folder: the folder where the answers are noted, once they are complete; a repeat asks nothing.

    Raises:
        PolicyRefusal: ``ARTIFACT_REFUSED``: indexes within indexes go too deep.
        ServiceError: the registry gives no answer, or under a digest other bytes than those.
    """
    name = proofs_of(declared, folder)
    if work.find(name, Proofs) is not None:
        return True
    artifacts = [Artifact.from_json(one, "artifact") for one in work.get(declared, Declared).artifacts]
    noted = work.find(f"{_BEGUN}{name}", LookUpNote) or LookUpNote(proofs=(), walk=None)
    proofs = [ArtifactProof.from_json(proof, "proof") for proof in noted.proofs]
    step, walk = _Step(registry), _Walk.resumed(noted.walk)
    for artifact in artifacts[len(proofs) :]:
        walk = walk or _Walk.begun(artifact)
        if not step.go_on(artifact, walk):
            break
        proofs.append(walk.proof_of(artifact, step.missing_tags(artifact)))
        walk = None
    told = tuple(proof.to_json() for proof in proofs)
    if len(proofs) < len(artifacts):
        work.put(f"{_BEGUN}{name}", LookUpNote(proofs=told, walk=None if walk is None else walk.note()))
        return False
    work.put(name, Proofs(proofs=told, lacking=sum(not proof.is_proven for proof in proofs)))
    return True


def proofs_of(declared: str, folder: str) -> str:
    """The name of the document in ``folder`` with what the registry has of a group of declared artifacts."""
    return folder + declared.removeprefix(declared_folder())


def tell_missing(proof: ArtifactProof) -> str:
    """The words for what a registry lacks of an artifact, in brief."""
    if proof.found is None:
        return "not there"
    if proof.missing:
        first = proof.missing[0]
        more = f" and {proof.missing_count - 1} more" if proof.missing_count > 1 else ""
        if first.kind == _REFERRER:
            return f"not listed as a referrer of {first.digest}{more}"
        return f"without the {first.kind} {first.digest}{more}"
    return f"without the tag {proof.missing_tags[0]}" if proof.missing_tags else "as signed"


@dataclass(slots=True)
class _Walk:
    """The way from an artifact's manifest to all that belongs to it; each manifest is read once."""

    open: list[tuple[str, str, int]]
    """Kind, digest and depth of what is still to be looked up, the next one last."""
    read: set[str] = field(default_factory=set)
    missing: list[MissingContent] = field(default_factory=list)
    missing_count: int = 0
    is_found: bool = True

    @classmethod
    def begun(cls, artifact: Artifact) -> "_Walk":
        return cls(open=[(_MANIFEST, artifact.digest, 0)])

    @classmethod
    def resumed(cls, noted: WalkNote | None) -> "_Walk | None":
        if noted is None:
            return None
        return cls(
            open=list(noted.open),
            read=set(noted.read),
            missing=[MissingContent.from_json(one, "missing") for one in noted.missing],
            missing_count=noted.missing_count,
            is_found=noted.is_found,
        )

    def note(self) -> WalkNote:
        return WalkNote(
            open=tuple(self.open),
            read=tuple(sorted(self.read)),
            missing=tuple(one.to_json() for one in self.missing),
            missing_count=self.missing_count,
            is_found=self.is_found,
        )

    def miss(self, kind: str, digest: str) -> None:
        self.missing_count += 1
        if len(self.missing) < MAX_MISSING_CONTENTS:
            self.missing.append(MissingContent(kind=kind, digest=digest))

    def follow(self, contents: Contents, artifact: Artifact, depth: int) -> None:
        """Put what a manifest refers to before what was open before it."""
        children = [one for one in dict.fromkeys(contents.manifests) if one not in self.read]
        if children and (depth >= MAX_DEPTH or len(self.read) + len(children) > MAX_ARTIFACTS):
            raise PolicyRefusal(
                Code.ARTIFACT_REFUSED,
                f"{artifact.reference}: nested over {MAX_DEPTH} deep or over {MAX_ARTIFACTS} manifests",
            )
        self.open += [(_MANIFEST, digest, depth + 1) for digest in children]
        self.open += [(kind, digest, depth) for kind, digest in dict.fromkeys(contents.blobs)]
        if depth == 0 and artifact.subject is not None and contents.subject is not None:
            self.open.append((_REFERRER, contents.subject, depth))

    def proof_of(self, artifact: Artifact, missing_tags: tuple[str, ...]) -> ArtifactProof:
        return ArtifactProof(
            reference=artifact.reference,
            digest=artifact.digest,
            found=artifact.digest if self.is_found else None,
            missing_tags=missing_tags,
            missing=tuple(self.missing),
            missing_count=self.missing_count,
        )


@dataclass(slots=True)
class _Step:
    """What one step may ask; the same blob of a repository is asked for once."""

    registry: RegistryReader
    requests: int = 0
    manifests: int = 0
    blobs: dict[tuple[str, str], bool] = field(default_factory=dict)
    listed: dict[tuple[str, str], frozenset[str] | None] = field(default_factory=dict)

    def go_on(self, artifact: Artifact, walk: _Walk) -> bool:
        """Look up what is open, as much as there is room for; whether nothing is left."""
        while walk.open:
            if self.requests >= REQUESTS_AT_ONCE or self.manifests >= MANIFESTS_AT_ONCE:
                return False
            kind, digest, depth = walk.open.pop()
            if kind == _MANIFEST:
                self._read(artifact, walk, digest, depth)
            elif kind == _REFERRER:
                if not self._is_listed(artifact, digest):
                    walk.miss(kind, digest)
            elif not self._has_blob(artifact.repository, digest):
                walk.miss(kind, digest)
        return True

    def missing_tags(self, artifact: Artifact) -> tuple[str, ...]:
        self.requests += len(artifact.tags)
        found = {tag: self.registry.resolve(artifact.repository, tag) for tag in artifact.tags}
        return tuple(tag for tag, one in found.items() if one is None or one.digest != artifact.digest)

    def _read(self, artifact: Artifact, walk: _Walk, digest: str, depth: int) -> None:
        if digest in walk.read:
            return
        walk.read.add(digest)
        self.requests += 1
        self.manifests += 1
        try:
            manifest = self.registry.manifest(artifact.repository, digest)
        except ServiceError as error:
            if error.code is not Code.NOT_FOUND:
                raise
            if depth == 0:
                walk.is_found = False
            else:
                walk.miss(_MANIFEST, digest)
            return
        walk.follow(read_contents(manifest, f"{artifact.repository}@{digest}"), artifact, depth)

    def _is_listed(self, artifact: Artifact, subject: str) -> bool:
        """Whether the registry lists the artifact for its subject; a registry without such lists has none."""
        key = (artifact.repository, subject)
        if key not in self.listed:
            self.requests += 1
            found = self.registry.referrers(*key)
            self.listed[key] = None if found is None else frozenset(one.digest for one in found)
        digests = self.listed[key]
        return digests is None or artifact.digest in digests

    def _has_blob(self, repository: str, digest: str) -> bool:
        key = (repository, digest)
        if key not in self.blobs:
            self.requests += 1
            self.blobs[key] = self.registry.has_blob(repository, digest)
        return self.blobs[key]
