"""Tables and charts are made of results; those in the repository are of the results there."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.publish import __main__ as publish
from benchmarks.publish.charts import drawn, short, source
from benchmarks.publish.pages import PageError, filled, names
from benchmarks.publish.tables import parts, times_text
from benchmarks.runs import as_json, load
from benchmarks.scale import findings as scale
from benchmarks.sizes import QUICK

from tests.benchmarks.made_up import findings, run, with_samples

ROOT = Path(__file__).parent.parent.parent
PAGE = "# Title\n\n<!-- made: run -->\n<!-- end of run -->\n\nBy hand.\n"


def cells(table, first):
    """Of the line that begins with `first`."""
    (line,) = [line for line in table.splitlines() if line.startswith(f"| {first} ")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def texts(svg):
    return [element.text for element in ET.fromstring(svg).iter() if element.tag.endswith("}text")]


def sources(svg):
    return [element.text for element in ET.fromstring(svg).iter() if element.tag.endswith("}source")]


@pytest.fixture(scope="module")
def made():
    return parts(run(), findings())


@pytest.fixture(scope="module")
def charts():
    return drawn(run(), findings())


# Pages


def test_a_part_is_made_and_all_else_stays():
    page = filled(PAGE, {"run": "one\ntwo", "other": "unused"})
    assert page == "# Title\n\n<!-- made: run -->\n\none\ntwo\n\n<!-- end of run -->\n\nBy hand.\n"
    assert filled(page, {"run": "one\ntwo"}) == page
    assert filled(page, {"run": r"\1"}) == PAGE.replace("-->\n<!--", "-->\n\n\\1\n\n<!--")


def test_a_part_that_cannot_be_made_is_an_error():
    with pytest.raises(PageError, match="nothing to make of: run"):
        filled(PAGE, {"other": ""})


@pytest.mark.parametrize("end", ["", "<!-- end of other -->\n", "text <!-- end of run -->\n"])
def test_a_part_without_an_end_is_an_error(end):
    with pytest.raises(PageError, match="no end"):
        filled(PAGE.replace("<!-- end of run -->\n", end), {"run": ""})


# Tables


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(0.00871, "0.0087 x"), (0.387, "0.39 x"), (1, "1.0 x"), (5.72, "5.7 x"), (14.1, "14 x"), (1_234.5, "1,234 x")],
)
def test_a_ratio_has_two_digits_or_so(ratio, text):
    assert times_text(ratio) == text


def test_peers_are_compared_in_the_direction_of_each_figure(made):
    assert cells(made["streams"], "**tidings**") == ["1,020", "1020.000", "1020.000", "1020.0", "1020.0"]
    assert cells(made["streams"], "fastapi.sse") == ["2.0 x", "2.0 x", "2.0 x", "2.0 x", "-"]
    assert cells(made["channels"], "nchan (nginx, in C)") == ["4.0 x"] * 5


def test_where_a_peer_is_better_it_is_bold():
    better = with_samples(lambda s: replace(s, figures=dict.fromkeys(s.figures, 1.0)) if s.peer == "nchan" else s)
    table = parts(better, findings())["channels"]
    assert cells(table, "nchan (nginx, in C)")[1] == "**0.00098 x**"  # milliseconds
    assert cells(table, "nchan (nginx, in C)")[0] == "1,020 x"  # deliveries a second
    assert "**" not in "".join(cells(table, "fastapi.sse"))


def test_a_ratio_of_a_busy_machine_is_unsure():
    busy = with_samples(lambda s: replace(s, contended=s.peer == "fastapi" and s.workload == "fanout"))
    assert cells(parts(busy, findings())["channels"], "fastapi.sse")[:2] == ["2.0 x ?", "2.0 x"]


def test_the_spread_is_that_of_the_peer_that_has_the_largest(made):
    assert cells(made["streams"], "*largest spread*") == ["± 1%"] * 5
    wide = with_samples(
        lambda s: replace(s, figures={k: v * s.round for k, v in s.figures.items()}) if s.peer == "fastapi" else s
    )
    assert cells(parts(wide, findings())["streams"], "*largest spread*") == ["± 51%"] * 4 + ["± 1%"]


def test_who_is_as_good_is_not_bold():
    equal = with_samples(lambda s: replace(s, figures=dict.fromkeys(s.figures, 1_020.0)) if s.peer == "fastapi" else s)
    assert cells(parts(equal, findings())["channels"], "fastapi.sse")[0] == "1.0 x"


def test_tables_of_the_model_have_no_heading(made):
    assert {made[name][0] for name in ("checks", "needs", "reconnect")} == {"|"}


def test_growth_has_a_line_for_each_point_and_peer(made):
    lines = made["growth_subscribers"].splitlines()[2:]
    assert [line.split("|")[1].strip() for line in lines] == [n for n in ("10", "100", "1,000", "5,000") for _ in "ab"]
    assert [line.split("|")[2].strip() for line in lines[:2]] == ["tidings", "nchan (nginx, in C)"]


def test_a_latency_of_a_busy_machine_is_unsure():
    busy = with_samples(lambda s: replace(s, contended=s.peer == "nchan" and s.point == 5_000 and s.round < 3))
    worse = with_samples(lambda s: replace(s, contended=s.peer == "nchan" and s.point == 5_000))
    assert "?" not in parts(busy, findings())["growth_subscribers"]
    assert parts(worse, findings())["growth_subscribers"].count("510.00 ?") == 1


def test_what_was_not_measured_is_said():
    lacking = run()
    lacking.results.missing["litestar"] = "pip install litestar"
    assert "Not measured: Litestar." in parts(lacking, findings())["run"]


# Charts


def test_other_results_have_another_source(charts):
    assert sources(charts["streams.svg"]) == [source(run())]
    other = with_samples(lambda s: replace(s, figures={**s.figures, "p99_ms": 1.0}) if s.workload == "answers" else s)
    assert source(other) != source(run())


def test_bars_have_names_and_ratios(charts):
    found = texts(charts["streams.svg"])
    assert "a burst of typed items, events/s" in found
    assert found.count("fastapi.sse") == 4
    assert found.count("2.0 x") == 4


def test_points_have_their_values(charts):
    found = texts(charts["growth-subscribers.svg"])
    assert found.count("1.0 k") == found.count("510") == 12  # tidings and nchan, at four points in three charts
    assert {"10", "100", "1,000", "5,000"} <= set(found)


def test_storms_are_drawn_for_each_kind_of_client(charts):
    found = texts(charts["reconnect.svg"])
    assert {"room for all", "browsers, 3 s", "browsers, told 1 to 10 s"} <= set(found)


def test_charts_have_a_white_ground_and_no_date(charts):
    for svg in charts.values():
        assert "fill: #ffffff" in svg
        assert not re.search(r"<dc:date>", svg)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.31, "0.3"), (99.0, "99.0"), (354.4, "354"), (1_378.0, "1.4 k"), (88_123.0, "88 k"), (2.8e6, "2.8 M")],
)
def test_values_beside_points_are_short(value, text):
    assert short(value) == text


# The whole


@pytest.fixture
def root(tmp_path):
    for page in publish.PAGES:
        (tmp_path / page).parent.mkdir(parents=True)
        (tmp_path / page).write_text(PAGE)
    (tmp_path / "run.json").write_text(as_json(run()))
    (tmp_path / "scale.json").write_text(findings().as_json())
    return tmp_path


def test_publishing_keeps_results_and_makes_pages_of_them(root, charts, capsys):
    arguments = [str(root / "run.json"), "--scale", str(root / "scale.json")]
    assert publish.main(arguments, root) == 0
    assert "wrote docs/performance.md\n" in capsys.readouterr().out
    assert load(root / publish.RUN) == run()
    assert scale.load(root / publish.SCALE) == findings()
    assert "Linux 1.0, 2 x Processor" in (root / "docs/performance.md").read_text()
    assert {file.name: file.read_text() for file in (root / publish.CHARTS).iterdir()} == charts
    assert publish.main([], root) == 0  # from what is kept, which is the same to the byte
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("results", "found", "error"),
    [
        (run(sizes=QUICK), findings(), "quick run"),
        (run(), findings(quick=True), "quick run"),
        (
            with_samples(lambda s: replace(s, workload="tasks") if s.workload == "storm" else s),
            findings(),
            "nothing of storm",
        ),
    ],
    ids=["quick", "quick scale", "incomplete"],
)
def test_what_means_little_is_not_published(root, results, found, error):
    with pytest.raises(ValueError, match=error):
        publish.published(results, found, root)


def test_the_repository_shows_the_results_that_it_has():
    """If this fails: python -m benchmarks.publish"""
    files = publish.published(load(ROOT / publish.RUN), scale.load(ROOT / publish.SCALE), ROOT)
    shown = {path: (ROOT / path).read_text() for path in files}
    assert {*(ROOT / publish.CHARTS).iterdir()} == {ROOT / path for path in files if path.suffix == ".svg"}
    for path, text in files.items():
        if path.suffix == ".svg":  # its bytes differ with matplotlib's version
            assert (texts(shown[path]), sources(shown[path])) == (texts(text), sources(text)), path
        else:
            assert shown[path] == text, path


def test_pages_use_every_chart_and_part(charts, made):
    page = (ROOT / "docs/performance.md").read_text()
    assert set(re.findall(r"\(images/performance/(.+?)\)", page)) == {*charts}
    readme = (ROOT / "benchmarks/README.md").read_text()
    assert {*names(page), *names(readme)} == {*made}
