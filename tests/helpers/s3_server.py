"""Object storage for tests: moto's server as a subprocess, and a proxy before it that makes the faults of a real network."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import itertools
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

REFUSALS = {
    "slow down": (503, "SlowDown"),
    "error before": (500, "InternalError"),
    "error after": (500, "InternalError"),
    "conflict": (409, "ConditionalRequestConflict"),
    "denied": (403, "AccessDenied"),
}
PASSING = ("slow down", "error before", "error after", "cut before", "cut after", "cut body", "delay")
"""Faults after which another attempt does better. "after": the request took effect, though its answer says otherwise."""

Plan = Callable[[int, str, str], str | None]
"""From a request's number, method and path to the fault that meets it, or None."""


def now_and_then(share: float, seed: int) -> Plan:
    """Any passing fault, to this share of all requests."""
    rng = random.Random(seed)
    return lambda *_: rng.choice(PASSING) if rng.random() < share else None


@dataclass
class Proxy:
    """Passes requests on to a server, but for the faults of `plan`; remembers what it did."""

    upstream: int
    plan: Plan = lambda *_: None
    log: list[tuple[str, str, str | None]] = field(default_factory=list)
    """(method, path, fault) of every request."""
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def faults(self) -> list[str]:
        return [fault for _, _, fault in self.log if fault]

    @contextlib.contextmanager
    def running(self) -> Iterator[Proxy]:
        server = _Server(("127.0.0.1", 0), _Handler)
        server.proxy, self.port = self, server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    proxy: Proxy

    def handle_error(self, *_) -> None:
        """A client that is killed breaks its connections."""


_WRITES = threading.Lock()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Header and body in one packet: in two, each answer waits for the client's acknowledgement.
    wbufsize = 1 << 16
    disable_nagle_algorithm = True

    def handle_request(self) -> None:
        proxy = self.server.proxy  # type: ignore[attr-defined]
        fault = proxy.plan(len(proxy.log), self.command, self.path)
        proxy.log.append((self.command, self.path, fault))
        length = int(self.headers.get("Content-Length", 0))
        if fault == "cut before":
            self.rfile.read(length // 2)
            self._hang_up()
            return
        body = self.rfile.read(length)
        if fault in ("slow down", "error before", "conflict", "denied"):
            self._refuse(fault)
            return
        if fault == "delay":
            time.sleep(0.05)
        answer, content = self._ask(proxy.upstream, body)
        if fault == "error after":
            self._refuse(fault)
        elif fault == "cut after":
            self._hang_up()
        else:
            self._answer(answer, content, fault)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_request

    def _ask(self, port: int, body: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        # S3 promises that of several that create one object one does; moto looks, and then writes.
        one_by_one = _WRITES if self.command == "PUT" else contextlib.nullcontext()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            with one_by_one:
                connection.request(self.command, self.path, body, dict(self.headers.items()))
                answer = connection.getresponse()
                return answer, answer.read()
        finally:
            connection.close()

    def _answer(self, answer: http.client.HTTPResponse, content: bytes, fault: str | None) -> None:
        if fault == "flip" and self.command == "GET" and content:
            middle = len(content) // 2
            content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        self.send_response(answer.status)
        hidden = ("transfer-encoding", "connection", "server", "date", "content-length")
        for name, value in answer.getheaders():
            if name.lower() not in hidden:
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        if fault == "cut body" and content:
            self.wfile.write(content[: len(content) // 2])
            self._hang_up()
            return
        self.wfile.write(content)

    def _refuse(self, fault: str) -> None:
        status, code = REFUSALS[fault]
        content = f"<Error><Code>{code}</Code><Message>made up</Message></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_) -> None:
        """Tests are quiet."""


@pytest.fixture(scope="session")
def moto_port() -> Iterator[int]:
    """The port of a server that behaves as S3 does."""
    for package in ("moto", "flask", "obstore"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: no object storage to test with")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], **quiet)
    try:
        wait_for_port(server, port)
        yield port
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def proxy(moto_port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """What our code takes for S3, without faults unless a test plans some."""
    with Proxy(moto_port).running() as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL", running.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT", "AWS_SESSION_TOKEN", "http_proxy", "HTTP_PROXY"):
            monkeypatch.delenv(name, raising=False)
        yield running


@pytest.fixture
def url(proxy: Proxy) -> str:
    """An empty place in a bucket of its own."""
    name = f"bucket-{next(_NUMBERS)}"
    connection = http.client.HTTPConnection("127.0.0.1", proxy.upstream)
    connection.request("PUT", f"/{name}", headers={"Content-Length": "0"})
    assert connection.getresponse().status == 200
    connection.close()
    return f"s3://{name}/some/corpus"


@pytest.fixture(scope="session")
def download() -> Callable[[str, Path], Path]:
    """Everything below a URL, as files in a folder."""

    def download(url: str, folder: Path) -> Path:
        from corpus.remote.bucket import Bucket

        bucket = Bucket(url)
        folder.mkdir(parents=True)
        for name in bucket.list():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(bucket.read(name) or b"")
        return folder

    return download


def wait_for_port(server: subprocess.Popen, port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError("moto's server does not answer")


_NUMBERS = itertools.count(1)


class Died(BaseException):
    """In place of a killed process; nothing catches it."""


@contextlib.contextmanager
def death_after(monkeypatch: pytest.MonkeyPatch, count: int) -> Iterator[None]:
    """Inside, this process dies at its first write to object storage after so many."""
    from corpus.remote.bucket import Bucket

    left = iter(range(count))
    with monkeypatch.context() as patch:
        for verb in ("create", "replace", "delete"):
            whole = getattr(Bucket, verb)

            def dying(*arguments, whole=whole):
                if next(left, None) is None:
                    raise Died
                return whole(*arguments)

            patch.setattr(Bucket, verb, dying)
        yield
