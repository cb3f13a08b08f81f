"""The report page in a real browser (Chromium): `pip install 'mtlplug[browser]'`."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from mtlplug.study.page import page
from mtlplug.study.results import FAILED
from tests.small_suite import outside
from tests.study.example import UNFINISHED, example
from tests.study.test_page import BIG, EMPTY, EVIL

WIDTHS = (360, 800, 1600)

LONG = "a_task_whose_name_has_no_end_" * 4


def strange() -> Any:
    """Scripts, very long words and long commands in every place."""
    results = example(
        states={("re3d", "QA"): FAILED}, targets=[*BIG[:1], ("re3d", "SL", "F1", 50.0)]
    )
    return replace(
        results,
        title=LONG,
        model=EVIL,
        targets=tuple(replace(each, metric=LONG, note=EVIL + LONG) for each in results.targets),
        trials=tuple(replace(each, error=EVIL + LONG, command=EVIL + LONG * 9, cell=LONG)
                     for each in results.trials),
        facts={LONG: LONG, "command": EVIL * 9, "list": list(range(99))},
    )  # fmt: skip


PAGES = {
    "unfinished": lambda: example(states=UNFINISHED, price=2.5),
    "strange": strange,
    "empty": lambda: EMPTY,
    "big": lambda: example(targets=BIG, seeds=(1, 2)),
}


def open_in_browser(text: str, scheme: str) -> dict[str, Any]:
    """What the browser finds in a page."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "page.html"
        file.write_text(text, encoding="utf-8")
        program = Path(__file__).with_name("browser.py")
        command = [sys.executable, str(program), str(file), scheme, ",".join(map(str, WIDTHS))]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=240, env=outside(), cwd=folder
        )
    answers = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    assert answers, done.stdout[-1000:] + done.stderr[-3000:]
    found: dict[str, Any] = json.loads(answers[0].removeprefix("FOUND "))
    return found


@functools.cache
def seen(name: str, scheme: str) -> dict[str, Any]:
    """What the browser finds in one of the pages."""
    return open_in_browser(page(PAGES[name]()), scheme)


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("PyQt6") is None or find_spec("PyQt6.QtWebEngineCore") is None,
        reason="no browser: pip install 'mtlplug[browser]'",
    ),
]

every = pytest.mark.parametrize(
    ("name", "scheme"), [(name, scheme) for name in PAGES for scheme in ("light", "dark")]
)


@every
def test_the_page_is_quiet(name: str, scheme: str) -> None:
    """Nothing on the console, no request but for the file itself, no script of the results ran."""
    found = seen(name, scheme)
    assert found["console"] == []
    assert len(found["requests"]) == len(WIDTHS)
    assert {request.split(":")[0] for request in found["requests"]} == {"file"}
    assert not any(at[state]["scripts"] for at in found["at"] for state in ("closed", "opened"))


@every
def test_the_page_never_scrolls_sideways(name: str, scheme: str) -> None:
    """At every width, with all details open too, all but the inside of boxes fits the screen."""
    for at, width in zip(seen(name, scheme)["at"], WIDTHS, strict=True):
        for state in ("closed", "opened"):
            assert at[state]["width"] == width
            assert at[state]["scroll"] <= width
            assert at[state]["wide"] == []


@every
def test_details_open_and_links_lead_to_them(name: str, scheme: str) -> None:
    """A click opens each; a cell of the heat map opens its own and its target's; keys reach all."""
    for at in seen(name, scheme)["at"]:
        assert at["closed"]["open"] == 0
        assert at["opened"]["open"] > 0 or name == "empty"
        assert at["unreachable"] == 0
        assert at["led"] == (0 if name == "empty" else 2)


@every
def test_charts_are_legible_in_both_schemes(name: str, scheme: str) -> None:
    """Letters in charts are at least 11 pixels high, and the page wears the reader's colours."""
    for at in seen(name, scheme)["at"]:
        assert at["closed"]["dark"] == (scheme == "dark")
        assert at["closed"]["letters"] is None or at["closed"]["letters"] >= 11
    light, dark = ({at["closed"]["background"] for at in seen(name, each)["at"]} for each in
                   ("light", "dark"))  # fmt: skip
    assert not light & dark


def test_the_page_forbids_what_the_browser_would_do() -> None:
    """A fetch planted in the page goes nowhere; in a page without its rule it is seen."""
    text = page(example(columns=("SL",)))
    assert seen("unfinished", "light")["planted"]["requests"] == []
    rule = text[text.index("<meta http-equiv") : text.index('<meta name="viewport')]
    found = open_in_browser(text.replace(rule, ""), "light")
    assert any("example.org" in request for request in found["planted"]["requests"])


def test_a_bad_page_is_noticed() -> None:
    """The browser sees a script run, a wide element, an error and a request."""
    bad = (
        "<!DOCTYPE html><h1>bad</h1><p style='width: 2000px'>wide</p><img src=http://example.org/x>"
        "<script>window.planted = 1; console.error('bad')</script>"
    )
    found = open_in_browser(bad, "light")
    assert "bad" in found["console"]
    assert any("example.org" in request for request in found["requests"])
    assert all(at["closed"]["scripts"] and at["closed"]["wide"] for at in found["at"])
    assert all(at["closed"]["scroll"] > 1999 for at in found["at"])
