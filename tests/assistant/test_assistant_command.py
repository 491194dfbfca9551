import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.assistant import papers
from tests.assistant.test_pdf import column, made
from tests.conftest import ROOT

QUESTION = "Which channels are removed first?"
ANSWER = "The channels with the lowest relevance are removed first."


def run(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "stages.assistant", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Return a folder with a README, a page of docs, two papers that can be read and one that cannot; no study."""
    root = tmp_path_factory.mktemp("small")
    (root / "README.md").write_text("# A study\n\nIt compares ways to make a network smaller.\n")
    (root / "docs").mkdir()
    (root / "docs" / "relevance.md").write_text(f"# Relevance\n\n## Pruning\n\n{ANSWER} Then the network is trained.\n")
    (root / "papers").mkdir()
    for name, text in (
        ("bread", "A loaf of bread is baked in an hour."),
        ("sea", "The sea has tides because of the moon."),
    ):
        made(root / "papers" / f"{name}.pdf", column(text))
    papers.broken(root / "papers" / "broken.pdf")
    shutil.copy(ROOT / "assistant.yaml", root)
    return root


@pytest.fixture(scope="module")
def asked(project):
    """Return what the first command says: it has to read everything before it answers."""
    return run(project, "ask", QUESTION, "--why", "--passages", "3")


def said(done):
    """Return the lines of stdout without those that bm25s logs."""
    return [line for line in done.stdout.splitlines() if not line.endswith("Building index from tokens")]


def test_nothing_but_the_answer_is_on_stdout(asked):
    assert said(asked) == asked.stdout.splitlines()


def test_a_question_is_answered_by_a_quote_and_its_place(asked):
    assert asked.returncode == 0
    first = said(asked)[0]
    assert re.fullmatch(rf"“{re.escape(ANSWER)}” \[1\]", first)
    places = re.findall(r"^\[(\d)\] (\S+), (.*) \(cosine (-?\d\.\d{3}), BM25 (\d+\.\d\d)\)$", asked.stdout, re.M)
    assert [number for number, *_ in places] == ["1", "2", "3"]
    assert places[0][1] == "docs/relevance.md"
    assert "Pruning" in places[0][2]


def test_why_says_ranks_sentences_terms_and_the_next_passage(asked):
    (block,) = re.findall(r"^\[1\] docs/relevance\.md, .*?(?=^\[2\] )", asked.stdout.split("\n\n", 2)[2], re.M | re.S)
    first, *rest = block.splitlines()
    assert re.search(r"rank 1, by meaning 1 \(cosine \d\.\d{3}\), by terms 1 \(BM25 \d\.\d\d\)$", first)
    changes = dict((line.split(": ", 1)[1], line) for line in rest if line.startswith("  without it "))
    assert set(changes) == {ANSWER, "Then the network is trained."}
    assert re.match(r"  without it -\d\.\d{3} cosine, -\d\.\d\d BM25: ", changes[ANSWER])
    assert any(re.match(r"  by term: (channels|removed|first) \d", line) for line in rest)
    assert any(
        re.match(r"  before \[2\], since its meaning is nearer to the question's \(cosine ", line) for line in rest
    )
    assert "before [4]" not in asked.stdout


def test_a_paper_that_is_broken_is_named_and_does_not_stop_the_rest(asked):
    (line,) = [line for line in asked.stderr.splitlines() if "broken" in line and "%" not in line]
    assert line.startswith("papers/broken.pdf: ")
    assert line.endswith("; left out")
    assert re.search(
        r"^read 4 files \(\d+ tokens in [\d.]+ s\), removed 0, 0 are as they were: 4 passages$", asked.stderr, re.M
    )
    assert "Traceback" not in asked.stderr


def test_the_second_question_reads_nothing_and_what_is_not_there_is_not_answered(project, asked):
    again = run(project, "ask", "Wer gewann die Weltmeisterschaft 1990?", "--sources", "paper")
    assert again.returncode == 0
    assert said(again)[0] == "Not in the sources."
    assert set(re.findall(r"^\[\d\] (\w+)/", again.stdout, re.M)) == {"papers"}
    assert "read " not in again.stderr
    assert "without it" not in again.stdout


def test_a_broken_index_is_one_line_and_a_rebuild_reads_all_files_again(project, asked):
    (project / "docs" / "new.md").write_text("# News\n\nToday it rains.\n")
    try:
        (project / ".assistant" / "documents.json").write_text("{")
        broken = run(project, "index")
        assert broken.returncode == 2
        assert re.fullmatch(
            r"\.assistant/documents\.json: .*index --rebuild.*\n|/.*documents\.json: .*--rebuild.*\n", broken.stderr
        )
        anew = run(project, "index", "--rebuild")
        assert anew.returncode == 0
        assert re.search(r"^read 5 files \(.*\), removed 0, 0 are as they were: 5 passages$", anew.stderr, re.M)
    finally:
        (project / "docs" / "new.md").unlink()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ask", "  "], "the question is empty"),
        (["ask", QUESTION, "--passages", "2"], "--passages"),
        (["--settings", "bad.yaml", "ask", QUESTION], r"bad\.yaml: .*colour"),
        (["papers"], r"papers/manifest\.yaml"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, arguments, message):
    text = (ROOT / "assistant.yaml").read_text()
    (tmp_path / "assistant.yaml").write_text(text)
    (tmp_path / "bad.yaml").write_text(f"{text}colour: red\n")
    done = run(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(rf".*{message}.*\n", done.stderr)
    assert not (tmp_path / ".assistant").exists()
