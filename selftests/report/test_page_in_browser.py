"""The page of `visionmark report` in a browser: it shows what the files hold, and works without a network."""

from __future__ import annotations

import io
import json
import shutil
from collections import defaultdict
from dataclasses import dataclass
from decimal import Decimal

import pytest
from PIL import Image

from harness.report.choice import pareto_front
from harness.report.page import gathered, page_html
from selftests.report.pages import file_of, record, write

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
HOSTILE = "</script><img src=x onerror=alert(1)>"


def mobilenet(engine, precision, speed, right):
    """Latency, throughput, parity and accuracy of one case; the rounds are those of eager alone, to be quick."""
    case = f"mobilenetv2_100-cpu-{precision}-bs8-{engine}"
    rounds_s = [8 / speed * (1 + 0.01 * (index % 9)) for index in range(60 if engine == "eager" else 0)]
    rate = {
        "images_per_second": speed,
        "images_per_second_low": speed * 0.95,
        "images_per_second_high": speed * 1.05,
    }
    top1 = {"pct": right, "low_pct": right - 2.5, "high_pct": right + 2.25}
    p50_ms = {"p50_ms": 8e3 / speed, "p50_low_ms": 7.9e3 / speed, "p50_high_ms": 8.2e3 / speed}
    return (
        record("latency", case=case, rounds_s=rounds_s, **p50_ms),
        record("throughput", case=case, rounds_s=rounds_s[:5], **rate),
        record("parity", case=case, sqnr_db=right + 0.123),
        record("accuracy", case=case, top1=top1, top5={"pct": 96.4}, paired={"verdict": "holds", "loss_points": 0.2}),
    )


SPEEDS = {("eager", "fp32"): (60.5, 83.8), ("compile", "fp32"): (95.25, 83.8), ("openvino", "bf16"): (180.125, 83.6)}
SPEEDS |= {("onnxruntime", "int8"): (150.75, 81.0), ("openvino", "int8"): (1234.5, 80.5)}
EACH = [{"name": f"stream {index}", "images_per_second": 10.5 + index} for index in range(2)]
WORKERS = [{"name": "worker 1", "decode_pct": 60.5, "copy_pct": 1.5, "model_pct": 30.0, "idle_pct": 8.0}]
TRAINED = {"losses": [2.5, 2.25, 2.0], "evaluations": [{"step": 0, "top1_pct": 0.5}, {"step": 3, "top1_pct": 9.5}]}
TURNED = {"against": "engine=eager", "verdict": "slower", "ratio": 1.21, "ratio_low": 1.18, "ratio_high": 1.25}
TURNED |= {"each_start": [1.18, 1.22, None, 1.23], "first": {"p50_ms": 9.5}, "second": {"p50_ms": 11.5}}
TURNED |= {"each_block": [{"side": side, "median_ms": 9.5} for side in ("first", "second", "second", "first")]}
OUTCOMES = [
    {
        "case": "m-cpu-fp32-bs1-script",
        "outcome": "out_of_memory",
        "reason": "killed at 8 GiB",
        "rows": 0,
        "took_s": 1.5,
    },
    {"case": "m-cpu-fp32-bs1-eager", "outcome": "measured", "reason": "", "rows": 2},
]
LAYERS = [{"name": "conv_stem", "operator": "conv2d", "calls": 1, "time_ms": 0.5, "pct": 12.5}]
BOUND = {"tflops": 0.0314159, "share_of_peak_pct": 21.5, "intensity": 33.25, "bound": "memory", "layers": LAYERS}
QUEUED = {"rounds_ms": [5.5, 6.5, 7.5], "mean_ms": 6.5, "server_queue_ms": 1.5, "server_compute_ms": 3.25}
JUDGED = {"scenario": "server", "validity": "INVALID", "reasons": ["one", "two"], "p99_bound_ms": None}
OTHERS = (
    record("streams", case="m-cpu-fp32-bs1-eager-x2", images_per_second=21.0, p50_ms=95.5, each=EACH),
    record("scenario", **JUDGED, mean_ms=3.5, max_ms=9.5, bound_ms=15.0),
    *(record("served", clients=clients, **QUEUED) for clients in (1, 8)),
    record("overhead", grpc_overhead_ms=0.5, grpc_overhead_low_ms=0.4, grpc_overhead_high_ms=0.6),
    record("end_to_end", images_per_second=50.5, decode_images_per_second=90.5, model_images_per_second=70.5),
    record("bulk", case="m-cpu-fp32-bs1-eager-w1", images_per_second=41.5, each=WORKERS),
    record(
        "coco",
        case="ssd-cpu-fp32-bs8-eager",
        ap={"pct": 26.1, "low_pct": 22.3, "high_pct": 29.8},
        absolute="fails",
        scores={"ap_by_category_pct": {"a.b": 50.5, "dog": None}},
    ),
    record("training_step", rounds_s=[0.1] * 11, forward_ms=30.5, backward_ms=60.5, optimiser_ms=9.5),
    record("training", **TRAINED, stop_threshold=50.0),
    record("versus", **TURNED, bound_pct=3.0),
    record("something_new", images_per_second=12.25, verdict="holds", odd=float("nan")),
    record("latency", case=HOSTILE, p50_ms=None, p50_missing_rounds=5, **BOUND),
)
FIRST = file_of(*(one for key, numbers in SPEEDS.items() for one in mobilenet(*key, *numbers)), *OTHERS)
FIRST["visionmark"]["outcomes"] = OUTCOMES
LATER = file_of(*mobilenet("eager", "fp32", 30.25, 83.8), datetime="2026-11-27T00:03:21+00:00")


class Browser:
    """A headless Chromium that resolves no name, with what it was told to load and what its console said."""

    def __init__(self, chromium, driver):
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1400,1400"):
            options.add_argument(argument)
        options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(driver))
        self.driver.set_script_timeout(60)

    def open(self, path):
        """Open a page and return what its console complained of, and what else it asked for."""
        for kind in ("browser", "performance"):
            self.driver.get_log(kind)
        self.driver.get(path.as_uri())
        self.wait_for_pictures()
        return self.complaints(), [
            url for url in self.asked_for() if url.split(":")[0] not in ("data", "blob") and url != path.as_uri()
        ]

    def show(self, path):
        """Open a page that is not open already."""
        if self.driver.current_url != path.as_uri():
            self.open(path)

    def complaints(self):
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]

    def asked_for(self):
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"]

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def wait_for_pictures(self):
        """Return when every picture that is in the page is drawn; the program asks for them in the next frame."""
        self.driver.execute_async_script(
            """const done = arguments[0];
            const isDrawn = () => document.querySelector("[data-picture]:not([data-drawn])") === null;
            const isIdle = () => Bokeh.documents.every((one) => one.is_idle);
            const look = () => (isDrawn() && isIdle() ? done() : requestAnimationFrame(look));
            requestAnimationFrame(() => requestAnimationFrame(look));"""
        )

    def unfold_all(self):
        self.run(
            "document.querySelectorAll('.unfold[aria-expanded=false]').forEach((one) => one.click());"
            "document.querySelectorAll('details').forEach((one) => { one.open = true; });"
        )
        self.wait_for_pictures()

    def column(self, table, heading):
        """The text of a column of a table, from top to bottom."""
        return self.run(
            "return [...document.querySelectorAll(`[data-table=${arguments[0]}] tr.row`)].map((line) =>"
            " line.querySelector(`[data-column='${arguments[1]}']`).textContent)",
            table,
            heading,
        )

    def sort(self, table, heading):
        self.run(
            "[...document.querySelectorAll(`[data-table=${arguments[0]}] th button`)]"
            ".find((one) => one.textContent === arguments[1]).click()",
            table,
            heading,
        )

    def cases(self):
        return self.run("return [...document.querySelectorAll('tr[data-case]')].map((one) => one.dataset.case)")

    def filter(self, name, value):
        self.run(
            "const one = document.querySelector(`#filters [name=${arguments[0]}]`); one.value = arguments[1];"
            "one.dispatchEvent(new Event(one.tagName === 'SELECT' ? 'change' : 'input'));",
            name,
            value,
        )

    def pictures(self):
        """For each picture its name and the data of all that is drawn in it."""
        return self.run(
            """const found = {};
            for (const one of Bokeh.documents) for (const figure of one.roots()) {
              found[figure.name] = figure.renderers.map((drawn) => [drawn.name,
                Object.fromEntries(Object.entries(drawn.data_source.data).map(([key, values]) => [key, [...values]]))]);
            }
            return found;"""
        )


@pytest.fixture(scope="module")
def browser():
    pytest.importorskip("selenium", reason="selenium is not installed: pip install -r requirements/check.txt")
    chromium = next((found for name in CHROMIUM if (found := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no Chromium with its driver on PATH: apt-get install chromium chromium-driver")
    opened = Browser(chromium, driver)
    yield opened
    opened.driver.quit()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The page, and what was gathered for it."""
    folder = tmp_path_factory.mktemp("page")
    data = gathered([write(folder, "first", FIRST), write(folder, "later", LATER)], bound_pct=3.0)
    path = folder / "report.html"
    path.write_text(page_html(data), encoding="utf-8")
    return path, data


def wrong_numbers(browser, data):
    """What the page shows and the files do not hold: each field with what is shown. The page is unfolded before."""
    shown = browser.run(
        "return [...document.querySelectorAll('[data-field]')].map((one) =>"
        " [one.dataset.row ?? null, one.dataset.pair ?? null, JSON.parse(one.dataset.field), one.textContent])"
    )
    wrong = []
    for row, pair, path, text in shown:
        held = data["rows"][int(row)]["record"] if pair is None else data["pairs"][int(pair)]
        for name in path:
            held = held[name]
        if not is_rounded(held, text):
            wrong.append((path, held, text))
    return wrong, {(int(row), *path) for row, pair, path, _ in shown if pair is None}


def is_rounded(held, text):
    if isinstance(held, bool) or not isinstance(held, (int, float)) or held != held:
        return text.lower() == str(held).lower()
    digits = Decimal(text).as_tuple().exponent
    return (
        abs(Decimal(held) - Decimal(text)) <= Decimal(5) * Decimal(10) ** (digits - 1) * (1 + Decimal("1e-9"))
        or float(text) == held
    )


def leaves(value, path=()):
    """The path of every single value in a record."""
    if isinstance(value, (dict, list)):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        return {one for name, part in parts for one in leaves(part, (*path, name))}
    return set() if value is None else {path}


@dataclass(frozen=True)
class Unfolded:
    """What there is to know of the page when all of it is unfolded."""

    data: dict
    complaints: list
    asked: list
    images: int
    pictures: dict
    wrong: list
    shown: set


@pytest.fixture(scope="module")
def unfolded(browser, made):
    path, data = made
    opened = browser.open(path)
    browser.unfold_all()
    complaints, asked = opened[0] + browser.complaints(), opened[1] + browser.asked_for()
    images = browser.run("return document.querySelectorAll('img').length")
    return Unfolded(data, complaints, asked, images, browser.pictures(), *wrong_numbers(browser, data))


def test_the_page_opens_without_complaint_and_asks_for_nothing(unfolded):
    assert (unfolded.complaints, unfolded.asked) == ([], [])
    assert unfolded.images == 0, "a name became a picture"


def test_every_number_is_the_files_and_every_field_is_shown(unfolded):
    assert unfolded.wrong == []
    rows = unfolded.data["rows"]
    for index, row in enumerate(rows):
        held = {(index, *one) for one in leaves({**row["record"], "evidence": None})}
        assert held - unfolded.shown == set(), "a field is not shown"
    proofs = [row for index, row in enumerate(rows) if (index, "evidence", "matrix_ops") in unfolded.shown]
    assert {row["record"]["case"] for row in proofs} == {
        row["record"]["case"] for row in rows if "measurement" in row["record"]
    }


def test_a_click_on_a_heading_sorts_by_number_and_not_by_text(browser, made):
    browser.open(made[0])
    browser.sort("case", "images/s")
    speeds = [float(text.split(" ")[0]) for text in browser.column("case", "images/s") if text]
    assert speeds == sorted(speeds, reverse=True) and speeds[0] == pytest.approx(1234.5, abs=0.5) and len(speeds) == 7
    assert browser.column("case", "images/s")[-1] == "", "rows without a number come last"
    browser.sort("case", "images/s")
    assert [float(text.split(" ")[0]) for text in browser.column("case", "images/s") if text] == sorted(speeds)
    assert browser.column("case", "images/s")[-1] == ""
    browser.sort("case", "case")
    assert browser.column("case", "case") == sorted(browser.column("case", "case"))


def test_filters_leave_the_rows_that_have_all_that_is_asked(browser, made):
    browser.show(made[0])
    everything = browser.cases()
    assert {"m-cpu-fp32-bs1-script", HOSTILE, "m-cpu-fp32-bs1-eager-x2"} < set(everything)
    browser.filter("words", "OPENVINO int8")
    assert browser.cases() == ["mobilenetv2_100-cpu-int8-bs8-openvino"]
    assert browser.run("return document.getElementById('shown').textContent") == f"1 of {len(everything)} rows"
    browser.filter("words", "")
    browser.filter("precision", "bf16")
    assert browser.cases() == ["mobilenetv2_100-cpu-bf16-bs8-openvino"]
    browser.filter("precision", "")
    browser.filter("measurement", "training")
    assert len(browser.cases()) == 1
    browser.filter("measurement", "")
    assert browser.cases() == everything


def test_scores_of_other_images_are_in_no_picture_together(browser, tmp_path):
    rows = [one for key, numbers in list(SPEEDS.items())[:4] for one in mobilenet(*key, *numbers)]
    scores = [row["extra_info"] for row in rows if row["group"] == "accuracy"]
    for score, sample in zip(scores, ("a" * 64, "b" * 64, "b" * 64, "b" * 64), strict=True):
        score |= {"sample_sha256": sample, "images": 500}
    path = tmp_path / "samples.html"
    path.write_text(page_html(gathered([write(tmp_path, "samples", file_of(*rows))], bound_pct=3.0)), encoding="utf-8")
    assert browser.open(path) == ([], [])
    drawn = dict(browser.pictures()["speed against right"])
    assert set(drawn) == {"front", *(f"engine {name}" for name in ("compile", "openvino", "onnxruntime")), None}
    told = browser.run("return [...document.querySelectorAll('select[name=judged] option')].map((one) => one.text)")
    assert told == ["top-1, % of 500 images (sample bbbbbb)", "SQNR against fp32, dB"]


def test_a_row_is_judged_by_the_accuracy_of_its_own_file(browser, tmp_path):
    """A newer engine has the weights of before, is twice as fast and wrong; both accuracies are of another batch."""

    def run(name, speed, top1, holds):
        rows = mobilenet("openvino", "int8", speed, top1)
        (score,) = (one for one in rows if one["group"] == "accuracy")
        score["extra_info"] |= {"case": "other batch", "batch": 99, "absolute": holds}
        return write(tmp_path, name, file_of(*rows))

    path = tmp_path / "judged.html"
    files = [run("before", 100.0, 76.1, "holds"), run("after", 200.0, 41.0, "fails")]
    path.write_text(page_html(gathered(files, bound_pct=3.0)), encoding="utf-8")
    assert browser.open(path) == ([], [])
    drawn = dict(browser.pictures()["speed against right"])
    assert sorted(drawn["engine openvino"]["right"]) == [41.0, 76.1]
    assert drawn["front"]["x"] == [76.1], "a wrong row is no part of the front"


def test_every_kind_of_row_has_its_table(browser, made):
    browser.show(made[0])
    tables = browser.run("return [...document.querySelectorAll('[data-table]')].map((one) => one.dataset.table)")
    assert set(tables) == {
        *("case", "versus", "scenario", "served", "training_step", "training", "other", "outcome", "pairs"),
    }
    assert browser.column("outcome", "case") == ["m-cpu-fp32-bs1-script"]
    assert browser.column("outcome", "outcome") == ["out of memory"]
    assert browser.column("versus", "time ratio") == ["1.210 (1.180–1.250)"]
    assert "0.031" in browser.column("case", "TFLOP/s")
    assert browser.column("other", "measurement") == ["overhead", "something new"]


def test_the_machines_and_versions_of_every_file_are_told(browser, made):
    browser.show(made[0])
    told = browser.run("return document.getElementById('machines').textContent")
    assert told.count("2.14.1") == told.count("A processor") == 2
    assert "2026-11-26T00:03:21+00:00" in told and "-k fbnetc_100" in told


def test_the_front_is_that_of_the_choice(browser, made):
    browser.show(made[0])
    browser.filter("file", str(made[0].with_name("first.json")))
    browser.wait_for_pictures()
    drawn = dict(browser.pictures()["speed against right"])
    points = {f"{engine} {precision}": (-right, speed) for (engine, precision), (speed, right) in SPEEDS.items()}
    assert list(zip(drawn["front"]["x"], drawn["front"]["y"], strict=True)) == [
        (-points[case][0], points[case][1]) for case in pareto_front(points)
    ]
    assert drawn["engine openvino"]["speed"] == [180.125, 1234.5]
    assert drawn["engine openvino"]["right_low"] == [83.6 - 2.5, 80.5 - 2.5]


def test_every_measurement_has_the_picture_that_fits_it(unfolded):
    rows, pairs, pictures = unfolded.data["rows"], unfolded.data["pairs"], unfolded.pictures
    of_rows = [name.split(" ") for name in pictures if name[0].isdigit()]
    found = defaultdict(set)
    for number, name in of_rows:
        found[rows[int(number)]["record"]["measurement"]].add(name)
    assert found == {
        "latency": {"rounds", "distribution", "layers"},
        "throughput": {"rounds"},
        "accuracy": {"scores"},
        "streams": {"each"},
        "scenario": {"scenario"},
        "served": {"rounds", "parts"},
        "overhead": {"overhead"},
        "end_to_end": {"parts"},
        "bulk": {"workers"},
        "coco": {"scores", "categories"},
        "training_step": {"rounds", "phases"},
        "training": {"losses", "evaluations"},
        "versus": {"ratio", "blocks"},
    }
    assert {"speed against right", "served loads", "history", "comparisons"} <= set(pictures)
    assert pictures["0 rounds"][0][1]["y"] == rows[0]["rounds"]["times_ms"]
    (turned,) = [dict(drawn)["ratios"] for name, drawn in pictures.items() if name.endswith(" ratio")]
    assert turned["name"][1:] == ["start 1", "start 2", "start 4"] and turned["ratio"][1:] == [1.18, 1.22, 1.23]
    assert dict(pictures["comparisons"])["ratios"]["ratio"] == [pairs[0]["ratio"]["value"]] == [pytest.approx(2.0)]


def test_what_is_unfolded_stays_so_until_it_is_folded_or_filtered_away(browser, made):
    browser.open(made[0])
    unfold = "document.querySelector(`tr[data-case='${arguments[0]}'] .unfold`).click()"
    case = "mobilenetv2_100-cpu-fp32-bs8-eager"
    count = "return document.querySelectorAll('tr.unfolded').length"
    browser.run(unfold, case)
    browser.wait_for_pictures()
    drawn = "return document.querySelector('[data-picture=\"0 rounds\"]')"
    before = browser.run(drawn)
    browser.sort("case", "images/s")
    assert browser.run(count) == 1 and browser.run(drawn) == before, "what was unfolded was drawn anew"
    browser.run("document.getElementById('theme').click()")
    browser.wait_for_pictures()
    assert browser.run(count) == 1 and browser.run(drawn) != before, "a picture kept the colours of the other theme"
    browser.run(unfold, case)
    assert browser.run(count) == 0
    assert "0 rounds" not in browser.pictures(), "the page keeps pictures that nobody sees"
    browser.run(unfold, case)
    browser.filter("precision", "int8")
    browser.filter("precision", "")
    assert browser.run(count) == 0
    browser.wait_for_pictures()
    assert browser.complaints() == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_pictures_are_drawn_in_the_colours_of_the_theme(theme, browser, made):
    browser.show(made[0])
    if browser.run("return document.documentElement.dataset.theme") != theme:
        browser.run("document.getElementById('theme').click()")
        browser.wait_for_pictures()
    picture = browser.driver.find_element("css selector", "[data-picture='speed against right']")
    image = Image.open(io.BytesIO(picture.screenshot_as_png)).convert("RGB")
    colours = sorted(image.getcolors(2**24), reverse=True)
    assert (min(colours[0][1]) > 200) == (theme == "light"), "the paper is of the other theme"
    assert len(colours) > 30, "nothing is drawn"
    assert any(max(colour) - min(colour) > 90 for _, colour in colours), "nothing coloured is drawn"


@pytest.mark.parametrize(
    ("sabotage", "words"),
    [
        ("throw new Error('planted');", "planted"),
        ("fetch('http://example.org/x').catch(() => null);", "example.org"),
    ],
)
def test_a_complaint_and_a_request_are_found(sabotage, words, browser, made, tmp_path):
    text = (
        made[0]
        .read_text(encoding="utf-8")
        .replace("default-src 'none';", "")
        .replace("</body>", f"<script>{sabotage}</script></body>")
    )
    path = tmp_path / "sabotaged.html"
    path.write_text(text, encoding="utf-8")
    complaints, asked = browser.open(path)
    assert any(words in one for one in (*complaints, *asked))


def test_a_number_that_is_not_the_files_is_found(browser, made, tmp_path):
    path, data = made
    text = path.read_text(encoding="utf-8")
    assert '"images_per_second":1234.5,' in text
    altered = tmp_path / "altered.html"
    altered.write_text(text.replace('"images_per_second":1234.5,', '"images_per_second":1235.5,', 1), encoding="utf-8")
    browser.open(altered)
    assert [(found[0], found[1]) for found in wrong_numbers(browser, data)[0]] == [(["images_per_second"], 1234.5)]


def test_a_page_of_an_old_file_with_next_to_nothing_in_it_opens(browser, tmp_path):
    bare = {
        "benchmarks": [
            {"extra_info": {"case": "x", "measurement": kind}}
            for kind in ("latency", "scenario", "streams", "served", "training", "coco", "versus", "bulk")
        ],
        "visionmark": {},
    }
    path = tmp_path / "bare.html"
    path.write_text(page_html(gathered([write(tmp_path, "bare", bare)], bound_pct=3.0)), encoding="utf-8")
    assert browser.open(path) == ([], [])
    browser.unfold_all()
    assert browser.complaints() == []
    assert len(browser.cases()) == 5
