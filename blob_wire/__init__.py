"""The wire to Blob storage: requests out, answers in as a stream, and a part read in one request.

Both ends and the mover read parts, for hours, from a storage that may break off, be busy, or lie; so they
share how that is done. Each says for itself what an answer means to it, and how patient it is.

* :mod:`~blob_wire.wire` — puts bytes on the wire and takes them off; nothing else here does
* :mod:`~blob_wire.paced_socket` — connections whose answers must keep a least pace
* :mod:`~blob_wire.answers` — what the status line, the headers and a broken connection say
* :mod:`~blob_wire.ranges` — a range of a blob, of one version, checked and resumed
"""
