"""Data sets behind a URL: the proxies of the environment are obeyed, and their failures are told."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from harness.data import NoImages, open_data_set


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
