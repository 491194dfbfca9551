import socket
from contextlib import contextmanager, suppress
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from stages.assistant import library, pdf
from stages.assistant.library import download, manifest
from stages.errors import InputError

PDF = b"%PDF-1.7\n" + bytes(range(256)) * 1000
DIGEST = sha256(PDF).hexdigest()
OTHER = "a" * 64
TITLE = "A title of many words" + " and more" * 15


@contextmanager
def serving(content=PDF, status=200, length=None, headers=None):
    """Yield the base URL of a server, and the paths it was asked for; `/moved` leads to `/a.pdf`."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            moved = self.path == "/moved"
            self.send_response(302 if moved else status)
            for name, value in ({"Location": "/a.pdf"} if moved else headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(0 if moved else length or len(content)))
            self.end_headers()
            if not moved:
                with suppress(ConnectionError):
                    self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def listed(folder, *papers):
    """Write a manifest of (file, url, sha256) with comments."""
    entries = [
        f"  - file: {file}  # a file\n    title: '{TITLE}'\n    url: {url}\n    sha256: {digest or 'null'} # digest\n"
        for file, url, digest in papers
    ]
    (folder / "manifest.yaml").write_text("# on top\npapers:\n" + "".join(entries) + "# at the end\n")


def refused(folder):
    with pytest.raises(InputError) as caught:
        download(folder, print)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_missing_paper_is_downloaded(tmp_path):
    with serving() as (url, asked):
        listed(tmp_path, ("a.pdf", f"{url}/a.pdf?x=1&y=2", DIGEST))
        before = (tmp_path / "manifest.yaml").read_text()
        download(tmp_path, print)
    assert (tmp_path / "a.pdf").read_bytes() == PDF
    assert (tmp_path / "manifest.yaml").read_text() == before
    assert files(tmp_path) == ["a.pdf", "manifest.yaml"]
    assert asked == ["/a.pdf?x=1&y=2"]


def test_redirects_are_followed(tmp_path):
    with serving() as (url, asked):
        listed(tmp_path, ("a.pdf", f"{url}/moved", DIGEST))
        download(tmp_path, print)
    assert (tmp_path / "a.pdf").read_bytes() == PDF
    assert asked == ["/moved", "/a.pdf"]


def test_a_redirect_to_a_local_file_is_not_followed(tmp_path):
    with serving(status=302, headers={"Location": "file:///etc/passwd"}) as (url, _):
        listed(tmp_path, ("a.pdf", f"{url}/a.pdf", None))
        assert f"{url}/a.pdf: cannot be downloaded: " in refused(tmp_path)
    assert files(tmp_path) == ["manifest.yaml"]


def test_the_digest_of_the_first_download_is_written_and_all_else_is_kept(tmp_path):
    lines = []
    with serving() as (url, _):
        dead = "http://127.0.0.1:1/c.pdf"
        listed(tmp_path, ("a.pdf", f"{url}/a.pdf", DIGEST), ("b.pdf", f"{url}/b.pdf", None), ("c.pdf", dead, None))
        before = (tmp_path / "manifest.yaml").read_text()
        with pytest.raises(InputError):
            download(tmp_path, lines.append)
    assert (tmp_path / "manifest.yaml").read_text() == before.replace("null", DIGEST, 1)
    assert [line for line in lines if "trusted at first use" in line and DIGEST in line] == [lines[2]]
    assert [paper.sha256 for paper in manifest(tmp_path)] == [DIGEST, DIGEST, None]


def test_a_trusted_paper_is_checked_ever_after(tmp_path):
    with serving() as (url, _):
        listed(tmp_path, ("a.pdf", f"{url}/a.pdf", None))
        download(tmp_path, print)
    (tmp_path / "a.pdf").write_bytes(PDF + b"more")
    assert DIGEST in refused(tmp_path)


def test_a_download_of_another_digest_is_refused_and_not_kept(tmp_path):
    with serving() as (url, _):
        listed(tmp_path, ("a.pdf", f"{url}/a.pdf", OTHER))
        message = refused(tmp_path)
    assert all(part in message for part in (str(tmp_path / "a.pdf"), f"{url}/a.pdf", DIGEST, OTHER))
    assert files(tmp_path) == ["manifest.yaml"]


def test_a_paper_that_is_there_is_not_asked_for(tmp_path):
    listed(tmp_path, ("a.pdf", "http://127.0.0.1:1/a.pdf", DIGEST))
    (tmp_path / "a.pdf").write_bytes(PDF)
    lines = []
    download(tmp_path, lines.append)
    assert lines == []


def test_a_paper_that_is_there_is_trusted_as_a_first_download_is(tmp_path):
    listed(tmp_path, ("a.pdf", "http://127.0.0.1:1/a.pdf", None))
    (tmp_path / "a.pdf").write_bytes(PDF)
    download(tmp_path, print)
    assert manifest(tmp_path)[0].sha256 == DIGEST


def test_a_file_there_with_another_digest_is_refused_by_name_and_left(tmp_path):
    listed(tmp_path, ("a.pdf", "http://127.0.0.1:1/a.pdf", OTHER))
    (tmp_path / "a.pdf").write_bytes(PDF)
    message = refused(tmp_path)
    assert all(part in message for part in (str(tmp_path / "a.pdf"), DIGEST, OTHER))
    assert (tmp_path / "a.pdf").read_bytes() == PDF


@pytest.mark.parametrize("digest", [None, OTHER])
@pytest.mark.parametrize("content", [b"<html>Are you a robot?</html>", b"%PD", b""])
def test_what_is_no_pdf_is_refused_and_not_kept(tmp_path, content, digest):
    with serving(content) as (url, _):
        listed(tmp_path, ("a.pdf", f"{url}/a.pdf", digest))
        before = (tmp_path / "manifest.yaml").read_text()
        message = refused(tmp_path)
    assert message == f"{tmp_path / 'a.pdf'}, downloaded from {url}/a.pdf: no PDF: does not begin with %PDF-"
    assert files(tmp_path) == ["manifest.yaml"]
    assert (tmp_path / "manifest.yaml").read_text() == before


def test_a_file_above_the_limit_is_refused_and_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(pdf, "MAX_BYTES", len(PDF) - 1)
    with serving() as (url, _):
        listed(tmp_path, ("a.pdf", f"{url}/a.pdf", DIGEST))
        assert f"{url}/a.pdf: more than " in refused(tmp_path)
    assert files(tmp_path) == ["manifest.yaml"]


def test_the_limit_is_50_mib_and_a_file_of_that_size_is_kept(tmp_path, monkeypatch):
    assert pdf.MAX_BYTES == 52428800
    monkeypatch.setattr(pdf, "MAX_BYTES", len(PDF))
    with serving() as (url, _):
        listed(tmp_path, ("a.pdf", f"{url}/a.pdf", DIGEST))
        download(tmp_path, print)
    assert files(tmp_path) == ["a.pdf", "manifest.yaml"]


def test_half_a_file_is_refused_and_neither_kept_nor_trusted(tmp_path):
    with serving(length=2 * len(PDF)) as (url, _):
        listed(tmp_path, ("a.pdf", f"{url}/a.pdf", None))
        assert f"{url}/a.pdf: cannot be downloaded: " in refused(tmp_path)
    assert files(tmp_path) == ["manifest.yaml"]
    assert manifest(tmp_path)[0].sha256 is None


@pytest.mark.parametrize(("status", "reason"), [(404, "Not Found"), (503, "Service Unavailable")])
def test_a_paper_that_is_not_there_names_url_and_status(tmp_path, status, reason):
    with serving(status=status) as (url, _):
        listed(tmp_path, ("a.pdf", f"{url}/a.pdf", None))
        assert refused(tmp_path) == f"{url}/a.pdf: cannot be downloaded: the server says {status} {reason}"
    assert files(tmp_path) == ["manifest.yaml"]


def test_a_refused_connection_names_url_and_reason_and_keeps_what_came_before(tmp_path):
    with socket.socket() as free, serving() as (url, _):
        free.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{free.getsockname()[1]}/b.pdf"
        listed(tmp_path, ("a.pdf", f"{url}/a.pdf", DIGEST), ("b.pdf", dead, None))
        assert refused(tmp_path) == f"{dead}: cannot be downloaded: Connection refused"
    assert files(tmp_path) == ["a.pdf", "manifest.yaml"]


def test_a_name_that_no_server_has_names_url_and_reason(tmp_path):
    listed(tmp_path, ("a.pdf", "http://nowhere.invalid/a.pdf", None))
    assert refused(tmp_path).startswith("http://nowhere.invalid/a.pdf: cannot be downloaded: ")


def test_a_silent_server_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(library, "SECONDS", (0.2, 0.2))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/a.pdf"
        listed(tmp_path, ("a.pdf", url, None))
        assert refused(tmp_path) == f"{url}: cannot be downloaded: timed out"


@pytest.mark.parametrize(
    ("file", "url", "digest"),
    [
        ("../a.pdf", "https://example.org/a.pdf", None),
        ("/tmp/a.pdf", "https://example.org/a.pdf", None),
        (".a.pdf", "https://example.org/a.pdf", None),
        ("a.txt", "https://example.org/a.pdf", None),
        ("a.pdf", "file:///etc/passwd", None),
        ("a.pdf", "ftp://example.org/a.pdf", None),
        ("a.pdf", "https://example.org/a.pdf", "abc"),
        ("a.pdf", "https://example.org/a.pdf", "A" * 64),
    ],
)
def test_a_manifest_with_a_value_out_of_range_is_refused(tmp_path, file, url, digest):
    listed(tmp_path, (file, url, digest))
    assert refused(tmp_path).startswith(f"{tmp_path / 'manifest.yaml'}: papers.0.")


def test_a_file_twice_in_the_manifest_is_refused(tmp_path):
    listed(tmp_path, *[("a.pdf", "https://example.org/a.pdf", None)] * 2)
    assert refused(tmp_path) == f"{tmp_path / 'manifest.yaml'}: papers: a.pdf is there more than once"


def test_an_unknown_key_in_the_manifest_is_refused_by_name(tmp_path):
    listed(tmp_path, ("a.pdf", "https://example.org/a.pdf", None))
    path = tmp_path / "manifest.yaml"
    path.write_text(path.read_text().replace("sha256:", "sha265:"))
    assert "papers.0.sha265: unknown key; did you mean sha256?" in refused(tmp_path)


def test_a_missing_manifest_is_named(tmp_path):
    assert refused(tmp_path).startswith(f"{tmp_path / 'manifest.yaml'}: cannot be read")


def test_the_manifest_of_the_project_is_valid():
    papers = manifest(Path("papers"))
    assert [paper.file.split("-")[0] for paper in papers] == ["achtibat", "anders", "kim", "yeom", "bach"]
    assert all(paper.url.startswith("https://") for paper in papers)
