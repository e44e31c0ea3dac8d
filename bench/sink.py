"""A stand-in for a blob service, nginx with TLS: it takes every block, keeps none, and gives one blob.

It reads a body whole into memory before it answers, as a storage does; a range of the blob is read from a
file, by way of an inner server, since ``x-ms-range`` must become ``Range``.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.measuring import BenchError
from local_cloud.pki import CertificateAuthority

_START_TIMEOUT_S = 10
_CONFIGURATION = """\
daemon off;
{user}
worker_processes auto;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
    keepalive_requests 1000000;
    client_max_body_size 0;
    client_body_buffer_size 64m;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    scgi_temp_path {folder}/scgi;
    uwsgi_temp_path {folder}/uwsgi;
    upstream inner {{ server unix:{folder}/inner.sock; keepalive 64; }}
    server {{
        listen unix:{folder}/inner.sock;
        location /source/ {{ alias {served}/; max_ranges 1; }}
        location /sink/ {{ return 201; }}
    }}
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        ssl_session_cache shared:tls:1m;
        proxy_http_version 1.1;
        add_header x-ms-version 2019-12-12 always;
        add_header x-ms-request-id 00000000-0000-0000-0000-000000000000 always;
        location /account/transfer/{transfer}/ {{
            proxy_pass http://inner/source/;
            proxy_set_header Connection "";
            proxy_set_header Range $http_x_ms_range;
            proxy_buffers 16 64k;
            proxy_max_temp_file_size 0;
            add_header x-ms-blob-type BlockBlob;
            add_header x-ms-version 2019-12-12 always;
        }}
        location /account/incoming/ {{
            error_page 404 = @missing;
            if ($request_method != PUT) {{ return 404; }}
            proxy_pass http://inner/sink/;
            proxy_set_header Connection "";
            proxy_set_header Content-Length "";
            proxy_pass_request_body off;
            proxy_method GET;
            add_header ETag '"0x1"' always;
            add_header Last-Modified "Thu, 01 Jan 2026 00:00:00 GMT" always;
            add_header x-ms-request-server-encrypted true always;
            add_header x-ms-version 2019-12-12 always;
        }}
        location @missing {{
            add_header x-ms-error-code BlobNotFound always;
            add_header x-ms-version 2019-12-12 always;
            return 404;
        }}
    }}
}}
"""


@contextmanager
def run_sink(
    nginx: str, folder: Path, ca: CertificateAuthority, *, served: Path, transfer_id: str
) -> Iterator[str]:
    """Run it; gives the account's URL: below it, ``transfer/<transferId>`` ``served``, ``incoming`` the sink.

    Raises:
        BenchError: it did not start.
    """
    folder.mkdir()
    certificate, key = ca.issue("sink")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    configuration = folder / "nginx.conf"
    configuration.write_text(
        _CONFIGURATION.format(
            user="user root;" if os.geteuid() == 0 else "",
            folder=folder,
            served=served,
            port=port,
            certificate=certificate,
            key=key,
            transfer=transfer_id,
        )
    )
    command = [nginx, "-e", str(folder / "error.log"), "-p", str(folder), "-c", str(configuration)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as child:
        try:
            _await(child, port, folder / "error.log")
            yield f"https://127.0.0.1:{port}/account"
        finally:
            child.terminate()
            child.wait()


def _await(child: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline and child.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    said = log.read_text(errors="replace").strip().splitlines()[-1:] if log.exists() else []
    raise BenchError(f"nginx did not start: {''.join(said)[:300]}")
