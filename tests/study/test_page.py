"""The report page of a study: what is in it, what it says, and that nothing gets out of it."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from mtlplug.pages import charts
from mtlplug.pages.charts import Line, Point, Words, lines, scatter, ticks
from mtlplug.pages.wording import folded
from mtlplug.study import view
from mtlplug.study.findings import Study, _suffices, findings
from mtlplug.study.page import page
from mtlplug.study.results import BASELINE, FAILED, MISSING, Column, Results, Target
from tests.study.example import TARGETS, UNFINISHED, example
from tests.study.small_results import results_of

EVIL = "<script>window.planted = 1</script>\"'><img src=http://example.org/x onerror=alert(1)>"

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Tree(HTMLParser):
    """Tags with their attributes, texts, and tags that were left open or closed twice."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.wrong += self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An opening tag."""
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A tag that closes itself."""
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        """A closing tag."""
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"/{tag}")

    def handle_data(self, data: str) -> None:
        """Text."""
        self.texts.append(data)

    def values(self, name: str) -> list[str]:
        """The values of an attribute, wherever it is."""
        return [attributes[name] for _, attributes in self.tags if name in attributes]


EMPTY = Results("demo", "", "a model", (), (), (), (), ())

BIG = [(f"target_{number:02}", ("SL", "QA", "C")[number % 3], "F1", 50.0) for number in range(40)]

STUDIES = {
    "whole": example(),
    "priced": example(price=2.5),
    "unfinished": example(states=UNFINISHED),
    "one seed": example(seeds=(1,)),
    "one rate": example(rates=(1e-4,)),
    "baseline only": example(columns=()),
    "one target": example(targets=TARGETS[:1]),
    "nothing done": example(
        states={(t[0], c): MISSING for t in TARGETS for c in (BASELINE, "SL")}, columns=("SL",)
    ),
    "all failed": example(
        states={(t[0], c): FAILED for t in TARGETS for c in (BASELINE, "SL")}, columns=("SL",)
    ),
    "no baseline": replace(example(), columns=example().columns[1:]),
    "targets only": replace(EMPTY, targets=(Target("wic", "C", "accuracy"),)),
    "columns only": replace(EMPTY, columns=(Column(BASELINE), Column("SL", MISSING))),
    "empty": EMPTY,
}


@pytest.mark.parametrize("name", STUDIES)
def test_any_study_gives_a_whole_page(name: str) -> None:
    """Finished, unfinished or empty: all tags are closed, ids are unique, links lead somewhere."""
    tree = Tree(page(STUDIES[name]))
    assert tree.wrong == []
    ids = tree.values("id")
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in tree.values("href")} <= set(ids)
    named = " ".join(tree.values("aria-labelledby")).split()
    assert set(named) <= set(ids)
    assert "None" not in re.findall(r"\w+", " ".join(tree.texts))
    assert "nan" not in " ".join(value for _, each in tree.tags for value in each.values()).split()


def test_the_checks_above_can_fail() -> None:
    """A tag left open and one closed twice are noticed."""
    assert Tree("<p><b>a</p>").wrong
    assert Tree("<p>a</p></p>").wrong
    assert not Tree("<p>a<br></p>").wrong


def test_nothing_is_fetched() -> None:
    """No script, no address of another place, and a rule that forbids both."""
    text = page(example())
    tree = Tree(text)
    assert not {"script", "link", "img", "iframe", "object", "form"} & {tag for tag, _ in tree.tags}
    assert tree.values("src") == []
    assert all(link.startswith("#") for link in tree.values("href"))
    assert "url(" not in text
    assert "@import" not in text
    assert not tree.values("style")
    (rule,) = [each for each in tree.values("content") if "default-src" in each]
    assert rule.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in rule


def test_everything_from_the_results_is_escaped() -> None:
    """Names, errors, commands and facts are text, whatever they contain."""
    plain = example(states={("re3d", "QA"): FAILED})
    results = replace(
        plain,
        suite=EVIL,
        title=EVIL,
        model=EVIL,
        columns=tuple(
            replace(each, name=each.name + EVIL * (each.name == "SL"), command=EVIL, error=EVIL,
                    state=FAILED, cell=EVIL, scores={EVIL: 1.0})
            for each in plain.columns
        ),
        targets=tuple(replace(each, name=each.name + EVIL, group=EVIL, metric=EVIL, note=EVIL)
                      for each in plain.targets),
        trials=tuple(
            replace(each, target=each.target + EVIL, command=EVIL, error=EVIL, cell=EVIL,
                    column=each.column + EVIL * (each.column == "SL"))
            for each in plain.trials
        ),
        facts={EVIL: {EVIL: EVIL}, "when": EVIL, "list": [EVIL]},
    )  # fmt: skip
    tree = Tree(page(results))
    assert not {"script", "img"} & {tag for tag, _ in tree.tags}
    assert not any(name.startswith("on") for _, each in tree.tags for name in each)
    assert sum(EVIL in text for text in tree.texts) > 100
    assert {"script", "img"} <= {tag for tag, _ in Tree(EVIL).tags}


def test_same_results_same_page() -> None:
    """Also after a trip through JSON's types."""
    results = example(states=UNFINISHED)
    assert page(results) == page(Results.from_dict(results.as_dict()))


def test_every_run_is_there_with_its_command() -> None:
    """All runs, chosen or not, done or not, can be repeated from the page."""
    results = example(states=UNFINISHED)
    text = "".join(Tree(page(results)).texts).replace(" \\\n  ", " ")
    assert all(each.command in text and each.cell in text for each in results.trials)
    assert all(each.command in text for each in results.columns)


def test_a_command_in_lines_is_the_same_command() -> None:
    """Every line but the first begins with an option; what no shell takes is left alone."""
    words = ["mtlplug", "run", "--model", "a folder/" + 90 * "x"]
    words += ["--set", 'name = "a -- \\n"', "-p", "b"]
    lines = folded(shlex.join(words)).split(" \\\n")
    assert [line.split()[0] for line in lines] == ["mtlplug", "--set"]
    assert shlex.split(folded(shlex.join(words), 10).replace("\\\n", "")) == words
    assert folded("it's") == "it's"


def test_failures_show_their_errors() -> None:
    """Each has its last line in sight and the whole error inside; a page without says so."""
    text = page(example(states=UNFINISHED))
    failed = [each for each in example(states=UNFINISHED).trials if each.state == FAILED]
    assert len(failed) == 10
    assert text.count("<code>torch.OutOfMemoryError") == 10
    assert text.count("Traceback (most recent call last):") == 10
    assert "Nothing failed." not in text
    assert "Nothing failed." in page(example())


def test_the_header_counts_what_is_done() -> None:
    """Done, failed and missing runs are counted."""
    results = example(states=UNFINISHED)
    states = [each.state for each in results.trials]
    text = f"{states.count('done')} done, 10 failed, 5 missing of {len(states)} finetuning runs"
    assert text in page(results)


def heat(results: Results) -> dict[tuple[str, str], view.HeatCell]:
    """The heat map by target and column."""
    names = [column.name for column in results.columns]
    return {
        (row.target.name, name): cell
        for row in view.heat_rows(Study(results))
        for name, cell in zip(names, row.cells, strict=True)
    }


def with_scores(baseline: list[float], other: list[float]) -> Results:
    """One target with two columns whose scores are given."""
    results = example(columns=("SL",), targets=TARGETS[:1], rates=(1e-4,))
    scores = {BASELINE: baseline, "SL": other}
    return replace(
        results,
        trials=tuple(
            replace(each, score=scores[each.column][each.seed - 1]) for each in results.trials
        ),
    )


@pytest.mark.parametrize(
    ("other", "shade", "marks"),
    [
        ([55.5, 55.6, 55.4], "p3", ""),
        ([39.0, 39.1, 38.9], "n4", ""),
        ([50.2, 50.3, 50.1], "z", "≈"),
        ([40.0, 56.0, 63.0], "p2", "≈"),
    ],
)
def test_a_cell_has_the_colour_of_its_difference(
    other: list[float], shade: str, marks: str
) -> None:
    """Blue above the baseline, orange below; differences that may be chance are marked."""
    cell = heat(with_scores([49.9, 50.0, 50.5], other))["wnut17", "SL"]
    assert (cell.shade, cell.marks) == (shade, marks)
    assert ("not distinguishable" in cell.spoken) == bool(marks)


def test_cells_without_a_verdict_say_so() -> None:
    """One seed cannot be judged; failed and missing cells have words and no colour."""
    one = heat(example(seeds=(1,)))["wnut17", "SL"]
    assert one.marks == "?"
    assert one.deviation == ""
    cells = heat(example(states=UNFINISHED))
    assert (cells["re3d", "QA"].mean, cells["re3d", "QA"].shade) == ("failed", "none")
    assert (cells["wic", "SL+QA+C"].mean, cells["wic", "SL+QA+C"].shade) == ("-", "none")
    assert cells["wnut17", BASELINE].shade == "base"


def test_findings_of_a_whole_study() -> None:
    """Five sentences at most; the best column, the cheapest, groups, cells and floors."""
    said = findings(Study(example()))
    assert 3 <= len(said) <= 5
    assert "SL+QA+C scores best" in said[0]
    assert "can be told from chance" in said[0]
    assert "12 targets" in said[0]
    assert "suffices" in said[2]
    assert "of 84 are distinguishably above" in said[3]
    assert "No encoder beats the most frequent answer on copa." in said[4]


@pytest.mark.parametrize(("own", "suffices"), [(60.0, True), (40.0, False)])
def test_a_group_that_gains_nothing_does_not_suffice(own: float, *, suffices: bool) -> None:
    """Where the group's own encoder is below the baseline, others may be no better."""
    means = {BASELINE: 50.0, "C": own, "SL": own - 5}
    scores = {("wic", name): [mean, mean + 0.1, mean - 0.1] for name, mean in means.items()}
    study = Study(results_of(scores))
    assert _suffices(study, "C", "wic") is suffices


def test_findings_are_honest_where_data_are_thin() -> None:
    """Few targets, one seed, no gain, no baseline and nothing at all: each is said."""
    few = " ".join(findings(Study(example(targets=TARGETS[:4]))))
    assert "cannot be told: fewer than 9 targets differ" in few
    assert "corrected for 7 comparisons" in few
    # Six of six would do for one test, and cannot for seven.
    six = findings(Study(example(targets=TARGETS[:6])))
    assert "cannot be told: fewer than 9 targets differ" in six[0]
    assert "can be told from chance" in findings(Study(example(("SL+QA+C",), TARGETS[:6])))[0]
    one = " ".join(findings(Study(example(seeds=(1,)))))
    assert "With one seed a cell, chance is not known" in one
    assert "distinguishably above" not in one
    worse = findings(Study(with_scores([50.0, 51.0, 52.0], [40.0, 41.0, 42.0])))[0]
    assert "no encoder scores above the baseline" in worse
    alone = findings(Study(example(columns=())))[0]
    assert "nothing to compare" in alone
    assert findings(Study(EMPTY)) == [
        "No finetuning run has been finished yet, so there is nothing to say."
    ]
    short = " ".join(findings(Study(example(states=UNFINISHED))))
    assert "On average over 9 targets" in short
    assert "3 of 96 cells are unfinished" in short


def test_ties_go_to_the_cheaper_encoder() -> None:
    """And where no target differs, that is said."""
    scores = {("a", name): [50.0, 52.0] for name in (BASELINE, "QA", "C")}
    columns = (Column(BASELINE), Column("QA", seconds=90.0), Column("C", seconds=10.0))
    said = findings(Study(results_of({**scores, **_renamed(scores, "b")}, columns=columns)))
    assert "C comes closest" in said[0]
    assert said[0].endswith("They are equal on each target.")


def _renamed(scores: dict[tuple[str, str], list[float]], name: str) -> Any:
    return {(name, column): values for (_, column), values in scores.items()}


@pytest.mark.parametrize(
    ("scores", "sentence"),
    [
        ([80.0, 80.5, 81.0], "By the spread over seeds it can be told from the baseline"),
        ([50.0, 53.0, 49.0], "it cannot be told from the baseline"),
        ([51.0], "Too few seeds"),
    ],
)
def test_one_target_is_judged_by_its_seeds(scores: list[float], sentence: str) -> None:
    """No test over targets can be made."""
    baseline = [50.0, 51.0, 49.0][: len(scores)]
    found = findings(Study(results_of({("a", BASELINE): baseline, ("a", "SL"): scores})))
    assert sentence in found[0]


def test_charts_stay_inside_their_frame() -> None:
    """Every point and label is within the picture, also of equal, lone and negative values."""
    points = [Point("SL+QA+C", 0.0, -3.0, 1, -4.0, -2.0), Point("C", 9.0, -3.0, 2, -3.0, -3.0)]
    series = [Line("a", [(1.0, 5.0)], 0), Line("b", [(1.0, 5.0), (9.0, 5.0)], 1, best=9.0)]
    words = Words("key", "title", "description", "x", "y")
    for text in (
        scatter(points, words, 300, 300),
        lines(series, words, 300, 300),
        lines([], words),
    ):
        assert "nan" not in text
        for name, value in re.findall(r' (c?[xy])="([-\d.]+)"', text):
            assert 0 <= float(value) <= 300, name
    labels = re.findall(
        r'<text x="[\d.]+" y="([\d.]+)" text-anchor="start"', scatter(points, words)
    )
    assert abs(float(labels[0]) - float(labels[1])) >= 14


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 9, [0, 2, 4, 6, 8]),
        (-3, 3, [-2, 0, 2]),
        (0.001, 0.0055, [0.001, 0.002, 0.003, 0.004, 0.005]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    """Ticks are multiples of 1, 2 or 5, and within the axis."""
    assert ticks(low, high, 5 if low >= 0 else 3) == pytest.approx(expected)


def colours(text: str) -> dict[str, str]:
    """Names and values of the colours in a rule of the style sheet."""
    return dict(re.findall(r"--([\w]+): (#[0-9a-f]{6})", text))


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    """Contrast ratio of two colours (WCAG 2.2)."""
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_can_be_read(scheme: int) -> None:
    """Text has a contrast of 4.5 on all grounds, lines one of 3 (WCAG 2.2, AA)."""
    style = Path(charts.__file__).with_name("base.html").read_text(encoding="utf-8")
    named = colours(re.findall(r":root \{(.*?)\}", style, re.DOTALL)[scheme])
    grounds = [f"{side}{level}" for side in "np" for level in range(1, 5)] + ["z", "panel", "bg"]
    assert min(contrast(named["ink"], named[each]) for each in grounds) >= 4.5
    assert min(contrast(named[each], named["bg"]) for each in ("soft", "link")) >= 4.5
    assert contrast(named["soft"], named["panel"]) >= 4.5
    assert min(contrast(named[f"c{number}"], named["bg"]) for number in range(8)) >= 3
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


def test_a_big_study_stays_small() -> None:
    """Forty targets by eight columns, all runs with commands: less than 3 MB."""
    assert len(page(example(targets=BIG))) < 3_000_000
