"""The XML of the blob service, read as it comes: only texts that are asked for are kept, no tree is built.

UTF-8 and nothing else, whatever the document says of itself, and no document type: without one there are no
entities to expand. A tree of elements would take a hundred bytes for each four of the document.
"""

from __future__ import annotations

import codecs
from xml.parsers import expat

_MAX_DEPTH = 16
_PIECE_BYTES = 64 * 1024
_MAX_TOKEN_BYTES = 2 * _PIECE_BYTES
"""Of one tag: its attributes are all unpacked before anybody is asked. The service's have a few hundred."""


class PlainXmlError(ValueError):
    """The document is not what the service writes."""


def read_texts(document: bytes, *paths: str) -> dict[str, list[str]]:
    """The texts of all elements at each of ``paths``, in order, as at ``EnumerationResults/NextMarker``.

    Raises:
        PlainXmlError: it is not well-formed UTF-8 XML, has a document type, another root than the paths, more
            than 16 levels, or a tag of over 128 KiB.
    """
    reader = _Reader(paths)
    try:
        reader.read(document)
    except expat.ExpatError:
        raise PlainXmlError("not XML in UTF-8") from None
    return reader.texts


def _is_utf8(document: bytes) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(document), _PIECE_BYTES):
            decoder.decode(document[start : start + _PIECE_BYTES])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


class _Reader:
    """One document on its way through the parser."""

    def __init__(self, paths: tuple[str, ...]) -> None:
        self.texts: dict[str, list[str]] = {path: [] for path in paths}
        self._roots = {path.partition("/")[0] for path in paths}
        self._open: list[str] = []
        self._pieces: list[str] | None = None
        # This encoding counts, not the one that the document declares.
        self._parser = expat.ParserCreate("utf-8")
        self._parser.buffer_text = True
        self._parser.StartDoctypeDeclHandler = self._refuse_doctype
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text

    def read(self, document: bytes) -> None:
        # The parser would find UTF-16 by itself, whatever encoding it is told.
        if b"\0" in document or not _is_utf8(document):
            raise PlainXmlError("not in UTF-8")
        for start in range(0, len(document), _PIECE_BYTES):
            self._parser.Parse(document[start : start + _PIECE_BYTES])
            if start - self._parser.CurrentByteIndex > _MAX_TOKEN_BYTES:
                raise PlainXmlError("a tag is too long")
        self._parser.Parse(b"", True)

    def _refuse_doctype(self, *_: object) -> None:
        raise PlainXmlError("a document type")

    def _start(self, tag: str, _attributes: object) -> None:
        self._open.append(tag)
        if len(self._open) > _MAX_DEPTH:
            raise PlainXmlError("nested too deep")
        if len(self._open) == 1 and tag not in self._roots:
            raise PlainXmlError("another kind of document")
        self._pieces = [] if "/".join(self._open) in self.texts else None

    def _text(self, text: str) -> None:
        if self._pieces is not None:
            self._pieces.append(text)

    def _end(self, _tag: str) -> None:
        if self._pieces is not None:
            self.texts["/".join(self._open)].append("".join(self._pieces))
            self._pieces = None
        self._open.pop()
