"""Fetching, against a server on 127.0.0.1 that fails in every known way."""

import hashlib
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torchvision
import yaml

from dissect_embed.datasets import fetch
from dissect_embed.datasets.fetch import fetch_file
from dissect_embed.errors import DatasetError, DiskSpaceError

REPO = Path(__file__).parents[2]
CAMVID = REPO.parent / "shared" / "data" / "broden_camvid.zip"
CONTENT = bytes(range(256)) * 4096  # 1 MiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HALF = len(CONTENT) // 2


@dataclass
class Host:
    """What the server has, how it fails, and what it was asked."""

    content: bytes = CONTENT
    etag: str | None = '"one"'
    modified: str | None = None
    kind: str = "application/zip"
    ranges: bool = True
    says_length: bool = True
    heeds_if_range: bool = True
    statuses: list[int] = field(default_factory=list)  # answered first, one a request
    drops: list[int] = field(default_factory=list)  # bytes after which an answer breaks off
    hang_after: int | None = None  # bytes after which nothing comes any more
    after_drop: Callable[["Host"], None] | None = None
    asked: list[dict[str, str]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    address: str = ""

    @property
    def ranges_asked(self) -> list[str | None]:
        return [headers.get("Range") for headers in self.asked]


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        host: Host = self.server.host  # type: ignore[attr-defined]
        host.asked.append(dict(self.headers))
        self.close_connection = True
        if host.statuses and (status := host.statuses.pop(0)) != 200:
            self.send_error(status)
            return
        start, validator = 0, host.etag or host.modified
        condition = self.headers.get("If-Range")
        if host.ranges and (wanted := self.headers.get("Range")):
            if condition is None or not host.heeds_if_range or condition == validator:
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        total = len(host.content)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if host.etag:
            self.send_header("ETag", host.etag)
        if host.modified:
            self.send_header("Last-Modified", host.modified)
        self.send_header("Content-Type", host.kind)
        if host.says_length:
            self.send_header("Content-Length", str(total - start))
        self.end_headers()
        body = host.content[start:]
        if host.drops:
            self.wfile.write(body[: host.drops.pop(0)])
            if host.after_drop:
                host.after_drop(host)
        elif host.hang_after is not None:
            self.wfile.write(body[: host.hang_after])
            self.wfile.flush()
            host.over.wait(20)
        else:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Callable[..., Host]]:
    """Start servers; all are gone, with their sockets and threads, after the test."""
    running = []

    def start(**what: object) -> Host:
        host = Host(**what)  # type: ignore[arg-type]
        server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        server.host = host  # type: ignore[attr-defined]
        host.address = f"http://127.0.0.1:{server.server_port}/broden.zip"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        running.append((host, server, thread))
        return host

    yield start
    for host, server, thread in running:
        host.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def _offline_and_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(fetch, "WAITS", (0.01, 0.01, 0.01))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "data" / "broden.zip"


def fetched(host: Host | str, target: Path, **more: object) -> bytes:
    source = host if isinstance(host, str) else host.address
    options = {"sha256": SHA256, "size": len(CONTENT), "timeout": 10.0} | more
    assert fetch_file([source], target, **options) == target  # type: ignore[arg-type]
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    return target.read_bytes()


def leftovers(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


# ---- fetching: what works ----


def test_whole_file(serve, target):
    host = serve()
    assert fetched(host, target) == CONTENT
    assert host.ranges_asked == [None]
    assert host.asked[0]["User-Agent"].startswith("dissect-embed/")


def test_broken_connection_asks_only_for_the_rest(serve, target):
    host = serve(drops=[HALF])
    assert fetched(host, target) == CONTENT
    assert host.ranges_asked == [None, f"bytes={HALF}-"]
    assert host.asked[1]["If-Range"] == '"one"'


def test_many_breaks_do_not_exhaust_the_tries_while_bytes_arrive(serve, target):
    host = serve(drops=[100_000] * 9)
    assert fetched(host, target) == CONTENT
    assert host.ranges_asked[-1] == "bytes=900000-"


def test_later_call_continues(serve, target):
    host = serve(drops=[HALF, 0, 0, 0, 0])
    with pytest.raises(DatasetError, match=f"broke off at {HALF} of {len(CONTENT)} bytes"):
        fetched(host, target)
    assert leftovers(target) == ["broden.zip.part", "broden.zip.part.json"]
    host.drops.clear()
    assert fetched(host, target) == CONTENT
    assert host.ranges_asked[-1] == f"bytes={HALF}-"


def test_complete_part_needs_no_request(serve, target, monkeypatch):
    host = serve()

    def interrupted(_: Path) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fetch, "_hash", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fetched(host, target)
    assert fetched(host, target) == CONTENT
    assert len(host.asked) == 1


@pytest.mark.parametrize(
    ("etag", "modified", "condition"),
    [
        ('"one"', "Mon, 02 Jan 2017 00:00:00 GMT", '"one"'),
        ('W/"one"', "Mon, 02 Jan 2017 00:00:00 GMT", None),
        (None, "Mon, 02 Jan 2017 00:00:00 GMT", "Mon, 02 Jan 2017 00:00:00 GMT"),
        (None, None, None),
    ],
)
def test_if_range_where_the_standard_allows_it(serve, target, etag, modified, condition):
    host = serve(drops=[HALF], etag=etag, modified=modified)
    assert fetched(host, target) == CONTENT
    assert host.asked[1].get("If-Range") == condition
    assert host.ranges_asked[1] == f"bytes={HALF}-"


def test_server_that_ignores_range_starts_over(serve, target):
    host = serve(drops=[HALF], ranges=False)
    assert fetched(host, target) == CONTENT
    assert len(host.asked) == 2


def test_server_that_ignores_range_and_always_breaks_is_given_up(serve, target):
    host = serve(drops=[HALF] * 50, ranges=False)
    with pytest.raises(DatasetError, match="broke off"):
        fetched(host, target)
    assert len(host.asked) == 4


@pytest.mark.parametrize("heeds", [True, False])
@pytest.mark.parametrize("etag", ['"two"', 'W/"two"'])
def test_changed_etag_starts_over(serve, target, heeds, etag):
    new = CONTENT[::-1]

    def change(host: Host) -> None:
        host.content, host.etag = new, etag

    old_etag = etag.replace("two", "one")
    host = serve(drops=[HALF], after_drop=change, heeds_if_range=heeds, etag=old_etag)
    assert fetched(host, target, sha256=hashlib.sha256(new).hexdigest()) == new


def test_changed_total_size_starts_over(serve, target):
    new = CONTENT[::-1] + b"more"

    def change(host: Host) -> None:
        host.content = new

    host = serve(drops=[HALF], after_drop=change, etag=None)
    assert fetched(host, target, sha256=None, size=None) == new


def test_part_without_its_note_or_from_elsewhere_is_not_continued(serve, target):
    host, other = serve(drops=[HALF, 0, 0, 0, 0]), serve()
    with pytest.raises(DatasetError, match="broke off"):
        fetched(host, target)
    assert fetched(other, target) == CONTENT
    assert other.ranges_asked == [None]

    target.unlink()
    (target.parent / "broden.zip.part").write_bytes(b"of unknown origin")
    assert fetched(other, target) == CONTENT


def test_busy_server_is_tried_again(serve, target):
    host = serve(statuses=[503, 429])
    assert fetched(host, target) == CONTENT
    assert len(host.asked) == 3


def test_next_source_after_one_that_is_gone(serve, target):
    gone, good = serve(statuses=[404]), serve()
    path = fetch_file([gone.address, good.address], target, sha256=SHA256, size=None)
    assert path.read_bytes() == CONTENT
    assert len(gone.asked) == 1  # a 404 is final


def test_local_copy(tmp_path, target):
    copy = tmp_path / "copy.zip"
    copy.write_bytes(CONTENT)
    assert fetched(str(copy), target) == CONTENT
    assert copy.exists()


def test_length_left_unsaid_is_made_up_by_the_declared_size(serve, target):
    assert fetched(serve(says_length=False), target) == CONTENT
    target.unlink()
    with pytest.raises(DatasetError, match="does not say"):
        fetched(serve(says_length=False), target, size=None)


def test_without_hash_the_computed_one_is_printed(serve, target, capsys):
    assert fetched(serve(), target, sha256=None) == CONTENT
    assert f"no sha256 was given; to pin this file: {SHA256}" in capsys.readouterr().err


def test_complete_target_is_kept_without_a_request(target):
    target.parent.mkdir()
    target.write_bytes(CONTENT)
    assert fetched("http://127.0.0.1:9/never", target) == CONTENT
    assert fetched("http://127.0.0.1:9/never", target, sha256=None, size=None) == CONTENT
    assert fetched("http://127.0.0.1:9/never", target, sha256=SHA256.upper()) == CONTENT


# ---- fetching: what must fail, and how ----


def test_existing_target_that_differs_is_not_overwritten(target):
    target.parent.mkdir()
    target.write_bytes(b"mine")
    with pytest.raises(DatasetError, match="expected 1048576 bytes, got 4; delete it"):
        fetched("unused", target)
    with pytest.raises(DatasetError, match=f"expected sha256 {SHA256}, got [0-9a-f]{{64}}; delete"):
        fetched("unused", target, size=None)
    assert target.read_bytes() == b"mine"


def test_wrong_hash_deletes_the_part(serve, target):
    wrong = "0" * 64
    with pytest.raises(DatasetError, match=rf"expected sha256 {wrong}, got {SHA256} \(deleted\)"):
        fetched(serve(), target, sha256=wrong)
    assert leftovers(target) == []


def test_wrong_size_is_refused_before_the_download(serve, target):
    with pytest.raises(DatasetError, match="expected 5 bytes, it offers 1048576"):
        fetched(serve(), target, size=5)
    assert leftovers(target) == []


def test_web_page_is_not_taken_for_the_file(serve, target):
    with pytest.raises(DatasetError, match="answered with a web page"):
        fetched(serve(kind="text/html; charset=utf-8"), target, sha256=None, size=None)


def test_all_sources_are_listed_with_reason_and_remedy(serve, target, tmp_path):
    gone, busy = serve(statuses=[404]), serve(statuses=[503] * 9)
    missing = str(tmp_path / "missing.zip")
    with pytest.raises(DatasetError) as caught:
        fetch_file([gone.address, busy.address, missing], target, sha256=None, size=None)
    message = str(caught.value)
    assert f"{target}: no source gave the file" in message
    assert f"{gone.address}: HTTP 404" in message
    assert f"{busy.address}: HTTP 503" in message
    assert f"{missing}: No such file" in message
    assert "dataset.sources" in message
    assert "--source" in message
    assert len(busy.asked) == 4


def test_hanging_server(serve, target):
    began = time.monotonic()
    some = fetch.BLOCK + 777  # not whole blocks: what came before the silence is kept
    with pytest.raises(DatasetError, match=f"broke off at {some} of .*timed out"):
        fetched(serve(hang_after=some, ranges=False), target, timeout=0.1)
    assert time.monotonic() - began < 5
    assert not target.exists()


def test_refused_connection(target):
    with pytest.raises(DatasetError, match=r"refused"):
        fetched("http://127.0.0.1:9/broden.zip", target)


@pytest.mark.parametrize("source", ["ftp://h/b.zip", "file:///b.zip", "s3://b/b.zip"])
def test_other_kinds_of_source_are_named(target, source):
    with pytest.raises(DatasetError, match=f"source '{source}' is neither"):
        fetched(source, target)
    assert not target.parent.exists()


def test_no_source_and_malformed_hash_are_refused_at_once(target):
    with pytest.raises(DatasetError, match="no source to fetch it from"):
        fetch_file([], target, sha256=None, size=None)
    with pytest.raises(DatasetError, match="64 hexadecimal digits, got 'abc'"):
        fetched("http://127.0.0.1:9/never", target, sha256="abc")


def test_full_disk_is_told_before_the_download(serve, target, monkeypatch):
    host = serve(drops=[HALF, 0, 0, 0, 0])
    with pytest.raises(DatasetError, match="broke off"):
        fetched(host, target)
    host.drops.clear()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, HALF - 1))
    with pytest.raises(DiskSpaceError, match=r"needs 524,288 bytes, 524,287 are free"):
        fetched(host, target)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, HALF))
    assert fetched(host, target) == CONTENT


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_killed_download_is_completed_by_the_same_command(serve, target):
    host = serve(hang_after=HALF)
    code = (
        "import sys, pathlib; from dissect_embed.datasets.fetch import fetch_file; "
        "fetch_file([sys.argv[1]], pathlib.Path(sys.argv[2]), sha256=sys.argv[3], size=None)"
    )
    command = [sys.executable, "-c", code, host.address, str(target), SHA256]
    part = target.parent / "broden.zip.part"
    with subprocess.Popen(command) as process:
        deadline = time.monotonic() + 20
        while not (part.exists() and part.stat().st_size >= HALF // 2):
            assert time.monotonic() < deadline, "the download did not begin"
            assert not target.exists()
            time.sleep(0.01)
        process.kill()
    assert not target.exists()
    have = part.stat().st_size
    host.hang_after = None
    subprocess.run(command, check=True, timeout=20)
    assert target.read_bytes() == CONTENT
    assert host.ranges_asked == [None, f"bytes={have}-"]
    assert leftovers(target) == [target.name]


# ---- the real thing ----


def test_sources_agree_with_torchvision():
    sources = yaml.safe_load((REPO / "data" / "sources.yaml").read_text(encoding="utf-8"))
    keys = {"url", "size", "sha256", "licence", "citation"}
    assert all(keys <= source.keys() for source in sources.values())
    resnet, cifar = sources["resnet18-imagenet1k-v1"], sources["cifar100"]
    assert resnet["url"] == torchvision.models.ResNet18_Weights.IMAGENET1K_V1.url
    assert resnet["sha256_prefix"] in resnet["url"]
    assert cifar["url"] == torchvision.datasets.CIFAR100.url
    assert cifar["md5"] == torchvision.datasets.CIFAR100.tgz_md5


@pytest.mark.shared
@pytest.mark.skipif(not CAMVID.exists(), reason="needs ../shared/data/broden_camvid.zip")
def test_photographs_over_a_broken_line(serve, target):
    content = CAMVID.read_bytes()
    host = serve(content=content, drops=[20_000_000])
    digest = hashlib.sha256(content).hexdigest()
    fetched(host, target, sha256=digest, size=len(content))
    assert host.ranges_asked == [None, "bytes=20000000-"]
