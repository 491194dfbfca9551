from stages.assistant import report

COMMIT = "0fbda650cc4929ecd98d9e5b0319670318aeee4a"
PAGE = f"""<!doctype html><html><head><title>no</title><style>p {{ color: red }}</style></head><body>
<h1>Pruning a network</h1><p>Loss &lt; 0.5 is <b>good</b>. It is the e.g. kept value.</p>
<h2>The <i>result</i></h2><div>Before<p>inside a block.</p>after.</div><svg><text>axis</text></svg>
<table><tr><th>criterion</th><th>80%</th><th></th></tr><tr><td>lrp</td><td>0.86</td><td>best</td></tr><tr><td>none</td></tr></table>
<h3>Below</h3><ul><li>One point.<li>Another point.</ul><script>alert("p")</script><h2>How to make it again</h2>
<p>Commit {COMMIT}; Python.</p><pre>seeds: [0]</pre></body></html>"""


def test_a_report_is_read_under_its_headings_with_the_commit_it_names(tmp_path):
    (tmp_path / "report.html").write_text(PAGE)
    document = report.read(tmp_path / "report.html", "metrics/report.html")
    assert (document.kind, document.title, document.source) == ("results", "Pruning a network", "metrics/report.html")
    assert [(each.place.removesuffix(", commit 0fbda65"), each.text) for each in document.sentences] == [
        ("report", "Loss < 0.5 is good."),
        ("report", "It is the e.g. kept value."),
        ("report › The result", "Before"),
        ("report › The result", "inside a block."),
        ("report › The result", "after."),
        ("report › The result", "criterion: lrp; 80%: 0.86; best."),
        ("report › The result", "criterion: none."),
        ("report › The result › Below", "One point."),
        ("report › The result › Below", "Another point."),
        ("report › How to make it again", f"Commit {COMMIT}; Python."),
    ]


def test_another_report_has_another_digest_and_one_without_a_commit_says_so(tmp_path):
    (tmp_path / "report.html").write_text(PAGE)
    first = report.read(tmp_path / "report.html", "r")
    (tmp_path / "report.html").write_text(PAGE.replace(COMMIT, "x"))
    second = report.read(tmp_path / "report.html", "r")
    assert first.digest != second.digest
    assert {each.place[-14:] for each in second.sentences} == {"commit unknown"}
