"""TLS between weir and a server: the true reason, and what it proves."""

import contextlib
import json
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from support.rawhttp import post
from support.weirs import UNTRACED, weir_http, write_config

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

WRITE = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"add"}}'


class Papers:
    """A certificate for 127.0.0.1, its authority, and the key once open and once encrypted."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        leaf = authority.issue_cert("127.0.0.1")
        self.ca, self.cert = str(folder / "ca.pem"), str(folder / "cert.pem")
        self.key, self.sealed = str(folder / "key.pem"), str(folder / "sealed.pem")
        authority.cert_pem.write_to_path(self.ca)
        leaf.cert_chain_pems[0].write_to_path(self.cert)
        leaf.private_key_pem.write_to_path(self.key)
        key = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None)
        sealing = serialization.BestAvailableEncryption(b"secret")
        form = serialization.PrivateFormat.PKCS8
        Path(self.sealed).write_bytes(key.private_bytes(serialization.Encoding.PEM, form, sealing))


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    """For all tests here."""
    return Papers(tmp_path_factory.mktemp("papers"))


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize("side", ["upstream", "listen"])
def test_an_encrypted_key_is_named_as_that(papers: Papers, tmp_path: Path, command: str, side: str) -> None:
    """By `weir check` and at the start; nobody is asked for a password."""
    pair = {"cert": papers.cert, "key": papers.sealed}
    upstream = {"url": "https://127.0.0.1:1/mcp", **({"tls": pair} if side == "upstream" else {})}
    listen = {"http": "127.0.0.1:0", "diagnostics": "off", **({"tls": pair} if side == "listen" else {})}
    file = write_config(tmp_path, upstream, {"listen": listen}, "")
    argv = [sys.executable, "-m", "weir", command, *(["--config"] if command == "run" else []), str(file)]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
    assert 0 != done.returncode
    assert "the key is encrypted, and weir has no password for it" in done.stdout + done.stderr


@contextlib.contextmanager
def refusing_server(papers: Papers) -> Iterator[tuple[int, list[bytes]]]:
    """A TLS 1.3 server that wants a client certificate: its port, and what came from each client until its end."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(papers.cert, papers.key)
    context.load_verify_locations(papers.ca)
    came: list[bytes] = []

    def visit(visitor: socket.socket) -> None:
        with visitor.dup() as raw:
            with visitor, contextlib.suppress(OSError):
                context.wrap_socket(visitor, server_side=True).close()
            rest = b""
            with contextlib.suppress(OSError):
                while piece := raw.recv(65536):
                    rest += piece
            came.append(rest)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                visitor = listener.accept()[0]
                threading.Thread(target=visit, args=(visitor,), daemon=True).start()

    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1], came
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@pytest.mark.parametrize("attempts", [1, 3], ids=["once", "tried again"])
async def test_a_refused_client_certificate_is_no_unknown_outcome(
    papers: Papers, tmp_path: Path, attempts: int
) -> None:
    """The write was sent, and the alert proves that it was not carried out: it may be tried again."""
    retry = {"attempts": attempts, "backoff": {"initial": "5ms", "max": "10ms"}, "budget": {"min_per_second": 100}}
    config = {**UNTRACED, "policies": {"retry": retry} if attempts > 1 else {}}
    with refusing_server(papers) as (port, came):
        upstream = {"url": f"https://127.0.0.1:{port}/mcp", "tls": {"ca": papers.ca}}
        with weir_http(tmp_path, upstream, config) as weir:
            reply = await post(weir.port, WRITE)
    error = json.loads(reply.body)["error"]
    assert (502, "upstream_tls_error", True) == (reply.status, error["data"]["reason"], error["data"]["sent"])
    assert "the server wants a client certificate (TLS alert 'certificate required')" in error["message"]
    assert "was not carried out" in error["message"]
    assert attempts == len(came)
