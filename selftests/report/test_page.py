"""The page of `visionmark report`: what is in it, and what cannot get out of it. A browser tests how it works."""

from __future__ import annotations

import csv
import io
import json
import random
import re
import sys
from fnmatch import fnmatch

import pytest

from commands.__main__ import main
from harness.report.comparison import UnreadableRun
from harness.report.numbers import flat, main_numbers
from harness.report.page import NothingMeasured, gathered, page_html
from harness.report.page.html import FOLDER, PROGRAM, embedded
from harness.report.page.rounds import MOST_ROUNDS, drawn_rounds
from selftests.inside import ROOT
from selftests.report.pages import CASE, file_of, record, write

BYTES_OF_500 = 6_000_000


def data_in(page):
    """What a browser takes out of the page, found as a browser finds it: up to the first end of the element."""
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script', page, re.S | re.I)
    return json.loads(found)


def report(tmp_path, *files, bound_pct=3.0):
    return gathered([write(tmp_path, f"run{index}", file) for index, file in enumerate(files)], bound_pct=bound_pct)


def test_the_page_holds_every_field_of_every_record_and_its_rounds(tmp_path):
    made = file_of(record("latency", rounds_s=[0.01, 0.02, 0.015]), record("parity"))
    data = data_in(page_html(report(tmp_path, made)))
    assert [row["record"] for row in data["rows"]] == [one["extra_info"] for one in made["benchmarks"]]
    assert data["rows"][0]["rounds"]["times_ms"] == [10.0, 20.0, 15.0]
    assert data["files"][0]["environment"] == made["visionmark"]["environment"]


@pytest.mark.parametrize(
    "name",
    ["</script><script>alert(1)</script>", "<!--<script>", "a\u2028b", "{{library}}", "<img src=x onerror=alert(1)>"],
)
def test_no_name_in_the_data_gets_out_of_its_script(name, tmp_path):
    page = page_html(report(tmp_path, file_of(record("latency", case=name))))
    assert data_in(page)["rows"][0]["record"]["case"] == name
    assert page.lower().count("</script") == page_html(report(tmp_path, file_of(record("latency")))).lower().count(
        "</script"
    )
    assert name not in page.replace(embedded({}), "") or name == "{{library}}"
    assert page.count("/* BEGIN bokeh.min.js */") == 1, "what stood in the data was filled in"


def test_a_file_name_is_text_in_the_title(tmp_path):
    path = write(tmp_path, "a<b>&c", file_of(record("latency")))
    assert "<title>visionmark: a&lt;b&gt;&amp;c.json</title>" in page_html(gathered([path], bound_pct=3))


def test_what_json_or_javascript_do_not_have_becomes_text(tmp_path):
    odd = file_of(record("parity", sqnr_db=float("nan"), loss=float("-inf"), seed=2**63 + 1, images=2**53))
    (row,) = data_in(page_html(report(tmp_path, odd)))["rows"]
    found = row["record"]
    assert (found["sqnr_db"], found["loss"], found["seed"]) == ("nan", "-inf", str(2**63 + 1))
    assert found["images"] == 2**53


def test_the_page_asks_no_network_for_anything(tmp_path):
    own = "".join((FOLDER / name).read_text() for name in ("page.html", "page.css", *PROGRAM))
    assert not re.search(r"https?:|//[a-z]+\.|@import|url\(|\bfetch\(|XMLHttpRequest|import\(", own)
    page = page_html(report(tmp_path, file_of(record("latency"))))
    assert "default-src 'none'" in page, "the browser would let the library ask"
    assert not re.search(r"<(?:script|img|iframe|link)[^>]*\b(?:src|href)=", page)


def test_every_file_of_the_page_is_installed_with_the_package():
    told = re.search(r'^package-data\."harness\.report\.page" = \[(.*)\]$', (ROOT / "pyproject.toml").read_text(), re.M)
    patterns = re.findall(r'"(.*?)"', told[1])
    others = {path.name for path in FOLDER.iterdir() if path.suffix not in (".py", ".pyc") and path.is_file()}
    assert {"page.html", "page.css", *PROGRAM} == others
    for name in others:
        assert any(fnmatch(name, pattern) for pattern in patterns), name


def test_five_hundred_rows_with_two_thousand_rounds_each_are_under_six_megabytes(tmp_path):
    generator = random.Random(17)
    rounds_s = [0.01 + generator.random() / 1e3 for _ in range(2000)]
    rows = [record("latency", case=f"{CASE}-{index}", rounds_s=rounds_s) for index in range(500)]
    page = page_html(report(tmp_path, file_of(*rows)))
    size = len(page.encode())
    assert size < BYTES_OF_500
    found = data_in(page)["rows"]
    assert sum(len(row["rounds"]["times_ms"]) for row in found) <= MOST_ROUNDS
    assert {row["rounds"]["total"] for row in found} == {2000}
    assert min(len(json.dumps(row["record"])) for row in found) > 4000, "the rows are smaller than real ones"


def test_thinned_rounds_keep_their_extremes_and_all_are_counted():
    times_s = [0.01] * 400_000
    times_s[123_456], times_s[7] = 0.5, 0.001
    (drawn,) = drawn_rounds([{"times_s": times_s, "of": "batch", "per": "batch"}])
    assert len(drawn["times_ms"]) == len(drawn["at"]) <= MOST_ROUNDS
    assert {at: time_ms for at, time_ms in zip(drawn["at"], drawn["times_ms"], strict=True) if time_ms != 10.0} == {
        7: 1.0,
        123_456: 500.0,
    }
    assert sum(drawn["bins"]["counts"]) == drawn["total"] == 400_000
    whole, none = drawn_rounds([{"times_s": [0.01, 0.02], "of": "batch", "per": "batch"}, None])
    assert (whole["at"], whole["bins"], none) == (None, None, None)


def test_rounds_are_of_what_was_timed(tmp_path):
    served = record("served", rounds_ms=[1.0, 2.0], rounds_s=[9.0])
    windows = [file_of(record("throughput", rounds_s=[1.0, 2.0]), schema=schema) for schema in (2, 3)]
    passes = [file_of(record("end_to_end", rounds_s=[1.0, 2.0]), schema=schema) for schema in (3, 4)]
    steps = file_of(record("training_step", rounds_s=[1.0, 2.0]))
    found = [row["rounds"] for row in report(tmp_path, file_of(served), *windows, *passes, steps)["rows"]]
    assert [(one["of"], one["per"]) for one in found] == [
        ("request", "request"),
        ("window", "window"),
        ("window", "batch"),
        ("pass over the files", "pass over the files"),
        ("pass over the files", "batch"),
        ("step", "step"),
    ]
    assert found[0]["times_ms"] == [1.0, 2.0]
    assert "rounds_ms" not in report(tmp_path, file_of(served))["rows"][0]["record"], "they would be there twice"
    assert report(tmp_path, file_of(record("parity", rounds_s=[1.0])))["rows"][0]["rounds"] is None


def test_rows_that_several_files_have_are_compared_with_the_first_that_has_them(tmp_path):
    def run(*cases, scale=1.0):
        rounds_s = [0.01 * scale * (1 + 0.001 * (index % 7)) for index in range(100)]
        return file_of(*(record("latency", case=case, rounds_s=rounds_s) for case in cases))

    pairs = report(tmp_path, run("a"), run("a", "b", scale=1.2), run("b", scale=1.2), run("c"))["pairs"]
    assert [(pair["earlier"], pair["later"], pair["case"]) for pair in pairs] == [(0, 1, "a"), (1, 2, "b")]
    assert [pair["ratio"]["verdict"] for pair in pairs] == ["slower", "same"]
    assert [pair["is_worse"] for pair in pairs] == [True, False]


def test_what_disturbed_a_row_is_told(tmp_path):
    disturbed = record("latency", runqueue_wait_pct=50.0, p50_ms=10.0)
    apart = record("throughput", images_per_second=10.0)
    first, second = report(tmp_path, file_of(disturbed, apart))["rows"]
    assert list(first["remarks"]) == ["machine shared", "disagrees"]
    assert second["remarks"] == {"disagrees": first["remarks"]["disagrees"]}
    assert "10% of batch over p50" in second["remarks"]["disagrees"]


def test_a_record_with_next_to_nothing_in_it_is_a_row(tmp_path):
    bare = {
        "benchmarks": [{"extra_info": {"case": "x", "measurement": "latency"}}, {"name": "of others"}],
        "visionmark": {},
    }
    (row,) = data_in(page_html(report(tmp_path, bare)))["rows"]
    assert row == {"file": 0, "record": {"case": "x", "measurement": "latency"}, "remarks": {}, "rounds": None}


def test_what_came_of_a_case_without_a_number_is_a_row_of_its_own(tmp_path):
    run = file_of(record("latency"))
    gone = {"case": "b", "outcome": "crashed: SIGSEGV", "reason": "in conv", "rows": 0}
    run["visionmark"]["outcomes"] = [{"case": CASE, "outcome": "measured", "reason": "", "rows": 1}, gone]
    recovered = file_of()
    missing = {"case": "c", "outcome": "failed", "error": "WrongAnswers", "reason": "far"}
    recovered["visionmark"]["recovered"] = {"missing": [missing]}
    assert [row["record"] for row in report(tmp_path, run, recovered)["rows"]][1:] == [gone, missing]


def run_report(capsys, *arguments):
    code = main(["report", *map(str, arguments)])
    return code, capsys.readouterr()


def test_the_command_writes_the_page_and_the_table(tmp_path, capsys):
    path = write(tmp_path, "out", file_of(record("latency"), record("parity")))
    page, table = tmp_path / "made" / "page.html", tmp_path / "rows.csv"
    code, told = run_report(capsys, path, "-o", page, "--csv", table)
    assert code == 0
    assert re.fullmatch(rf"2 rows of 1 file in {page} and {table} \([\d.]+ MB\)\n", told.out)
    assert len(data_in(page.read_text())["rows"]) == len(list(csv.DictReader(table.open()))) == 2


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (None, 4, "No such file or directory"),
        ("{", 4, "is no JSON"),
        ("[]", 4, "holds no run of visionmark"),
        ('{"benchmarks": [], "visionmark": {}}', 5, "no row was measured in"),
    ],
    ids=["absent", "broken", "another's", "empty"],
)
def test_a_file_that_gives_no_page_is_told_in_one_line(content, code, words, tmp_path, capsys):
    path = tmp_path / "out.json"
    if content is not None:
        path.write_text(content)
    found, told = run_report(capsys, path, "-o", tmp_path / "page.html")
    assert (found, told.out) == (code, "")
    assert re.fullmatch(r"visionmark report: [^\n]+\n", told.err)
    assert words in told.err and str(path) in told.err
    assert not (tmp_path / "page.html").exists()


def test_one_broken_file_among_several_is_named(tmp_path):
    good, bad = write(tmp_path, "good", file_of(record("latency"))), tmp_path / "bad.json"
    bad.write_text("{")
    with pytest.raises(UnreadableRun, match=re.escape(str(bad))):
        gathered([good, bad], bound_pct=3)
    with pytest.raises(NothingMeasured):
        report(tmp_path, file_of())


def test_without_the_plotting_library_the_way_to_it_is_told(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "bokeh", None)
    monkeypatch.setitem(sys.modules, "bokeh.resources", None)
    code, told = run_report(capsys, write(tmp_path, "out", file_of(record("latency"))), "-o", tmp_path / "page.html")
    assert code == 4
    assert re.fullmatch(r"visionmark report: bokeh\S* is not installed[^\n]+requirements/core.txt\n", told.err)


def test_a_page_that_cannot_be_written_is_told_in_one_line(tmp_path, capsys):
    path = write(tmp_path, "out", file_of(record("latency")))
    (tmp_path / "folder").mkdir()
    code, told = run_report(capsys, path, "-o", tmp_path / "folder")
    assert code == 4
    assert re.fullmatch(r"visionmark report: [^\n]+folder: [^\n]+; give a file that can be written\n", told.err)


def test_the_table_has_a_line_a_measurement_and_a_column_a_field(tmp_path):
    made = file_of(record("latency", reasons=["one", "two"], top1={"pct": 83.8, "low_pct": 80.0}), record("parity"))
    path = write(tmp_path, "out", made)
    table = tmp_path / "out.csv"
    assert main(["report", str(path), "-o", str(tmp_path / "page.html"), "--csv", str(table)]) == 0
    lines = list(csv.DictReader(io.StringIO(table.read_text())))
    assert [line["measurement"] for line in lines] == ["latency", "parity"]
    assert (lines[0]["reasons"], lines[0]["top1.pct"], lines[1]["top1.pct"]) == ("one; two", "83.8", "")
    for line, one in zip(lines, made["benchmarks"], strict=True):
        for name, value in flat(one["extra_info"]).items():
            assert line[name] == str(value)
    assert list(lines[0])[:4] == ["file", "datetime", "case", "measurement"]


def test_the_main_numbers_are_those_that_the_record_has():
    one = record("latency")["extra_info"]
    assert main_numbers(one) == {
        name: one[name] for name in ("p50_ms", "p50_low_ms", "p50_high_ms", "peak_memory_mib", "compile_s", "rounds")
    }
    assert main_numbers({"top1": {"pct": 1.5}, "paired": None, "absolute": "holds"}) == {
        "top1.pct": 1.5,
        "absolute": "holds",
    }
