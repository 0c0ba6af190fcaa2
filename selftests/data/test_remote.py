"""Data sets behind a URL: the proxies of the environment are obeyed, and their failures are told."""

import os
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import Request, urlopen

import pytest
from PIL import Image

from harness.data import NoImages, open_data_set, remote
from selftests.inside import ROOT


@pytest.fixture
def proxy():
    """A proxy that refuses everything; the addresses that it was asked for."""
    asked = []

    class Refuses(BaseHTTPRequestHandler):
        def refuse(self):
            asked.append(self.path)
            self.send_error(503, "no way out")

        do_GET = do_HEAD = do_CONNECT = refuse

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refuses)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    "url",
    ["http://images.invalid/set", "https://images.invalid/set", "zip://set::https://images.invalid/set.zip"],
)
def test_the_proxies_of_the_environment_are_obeyed_and_their_refusal_is_told(tmp_path, monkeypatch, proxy, url):
    address, asked = proxy
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, address)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(NoImages, match="images.invalid"):
        open_data_set(url, tmp_path / "cache")
    assert any("images.invalid" in one for one in asked)


@contextmanager
def google():
    """Google's emulator."""
    import gcsfs
    from gcp_storage_emulator.server import create_server

    server = create_server("127.0.0.1", 0, in_memory=True, default_bucket="visionmark")
    server.start()
    port = server._api._httpd.server_address[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
        patch.setenv("FSSPEC_GS_TOKEN", "anon")
        # asks over gRPC, which the emulator does not speak
        patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        gcsfs.GCSFileSystem.clear_instance_cache()
        yield gcsfs.GCSFileSystem()
        gcsfs.GCSFileSystem.clear_instance_cache()
    server.stop()


@contextmanager
def amazon():
    """Amazon's S3 as moto plays it."""
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_ENDPOINT_URL", address)
        patch.setenv("AWS_ACCESS_KEY_ID", "a")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "b")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem.clear_instance_cache()
        client = s3fs.S3FileSystem()
        client.mkdir("visionmark")
        yield client
        s3fs.S3FileSystem.clear_instance_cache()
    urlopen(Request(f"{address}/moto-api/reset", method="POST")).close()  # buckets are the process's, not the server's
    server.stop()


@dataclass(frozen=True)
class Bucket:
    """A bucket of an emulator, which speaks over a real socket."""

    scheme: str
    client: object

    def put(self, name, content):
        self.client.pipe(f"visionmark/{name}", content)


@pytest.fixture(params=[("gs", google), ("s3", amazon)], ids=["gs", "s3"])
def bucket(request):
    scheme, emulator = request.param
    with emulator() as client:
        yield Bucket(scheme, client)


def jpeg(tmp_path, colour):
    path = tmp_path / "a.jpeg"
    Image.new("RGB", (8, 8), colour).save(path, "jpeg")
    return path.read_bytes()


def test_a_bucket_is_fetched_once_and_what_has_changed_in_it_again(tmp_path, bucket):
    """The sabotage: an object that is replaced under its name, one that is new, and one that is gone."""
    for wnid in ("n01440764", "n01443537"):
        bucket.put(f"imagenet/{wnid}/a.JPEG", jpeg(tmp_path, "red"))
    told = []
    url = f"{bucket.scheme}://visionmark/imagenet"

    def files():
        data = open_data_set(url, tmp_path / "cache", told.append)
        return {f"{one.path.parent.name}/{one.path.name}": one.read() for one in data.images}

    first = files()
    assert len(first) == 2
    assert len(told) == 1
    assert files() == first
    assert len(told) == 1, "what has not changed is not fetched again"
    bucket.put("imagenet/n01443537/a.JPEG", jpeg(tmp_path, "blue"))
    bucket.put("imagenet/n01443537/b.JPEG", jpeg(tmp_path, "green"))
    second = files()
    assert "fetching 2 of the 3 objects" in told[-1]
    assert len(second) == 3
    changed = [name for name in first if second[name] != first[name]]
    assert len(changed) == 1 and "n01443537" in changed[0]


def test_a_bucket_that_is_not_there_or_is_no_folder_is_one_line(tmp_path, bucket):
    bucket.put("imagenet/n01440764/a.JPEG", jpeg(tmp_path, "red"))
    for place in ("visionmark/nothing", "another/imagenet"):
        url = f"{bucket.scheme}://{place}"
        with pytest.raises(NoImages) as caught:
            open_data_set(url, tmp_path / "cache")
        assert url in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1


def test_a_bucket_that_does_not_answer_is_given_up_in_time():
    """The sabotage: a client that never returns. The promise is 30 s, of which the client's import is a part."""
    never = threading.Event()
    with pytest.raises(NoImages, match=r"gs://far/away has not answered within 0.1 s: look at its name"):
        remote.answered(never.wait, "gs://far/away", within_s=0.1)
    never.set()
    assert remote.ANSWERS_WITHIN_S < 30
    assert remote.answered(lambda: 7, "gs://near/by") == 7


@pytest.mark.parametrize("package", ["gcsfs", "s3fs"])
def test_the_clients_of_buckets_are_among_what_data_needs(package):
    assert re.search(rf"^{package}\b", (ROOT / "requirements" / "data.txt").read_text(), re.M)


def test_the_listing_has_sizes_and_tags_and_no_folder_and_no_way_out():
    class Lists:
        def find(self, path, detail):
            assert detail
            return {
                "b/set/n01440764/": {"size": 0, "etag": "a"},
                "b/set/n01440764/a.JPEG": {"size": 7, "etag": "b", "md5Hash": "c"},
                "b/set/n01440764/b.JPEG": {"Size": 8, "ETag": "d"},
                "b/set/../../out.JPEG": {"size": 9, "etag": "e"},
            }

    found = remote._listing(Lists(), "b/set")
    assert found == {"n01440764/a.JPEG": ["7", "b"], "n01440764/b.JPEG": ["8", "d"]}
