"""Opens a page in a real browser without a screen and reports what it finds there, as JSON.

Run as a program, so that a crash of the browser is a failed test and not the end of all tests:

    python browser.py PAGE SCHEME WIDTH[,WIDTH...] [PICTURES]

SCHEME is light or dark; PICTURES is a folder for screenshots. It needs PyQt6-WebEngine (Chromium).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

TALLEST = 9_000
"""Pixels of a screenshot."""

SCREEN = 900
"""Pixels of the screen."""

LOOK = """
(() => {
  const root = document.documentElement, wide = [];
  for (const each of document.querySelectorAll("body *")) {
    if (each.closest(".box, .hidden, .skip, svg")) continue;
    const box = each.getBoundingClientRect();
    if (box.width && box.right > innerWidth + 0.5)
      wide.push(each.tagName + "." + each.className + " " + Math.round(box.right));
  }
  const style = getComputedStyle(document.body);
  return JSON.stringify({
    width: innerWidth, scroll: root.scrollWidth, height: root.scrollHeight, wide: wide.slice(0, 5),
    background: style.backgroundColor, ink: style.color,
    dark: matchMedia("(prefers-color-scheme: dark)").matches,
    open: document.querySelectorAll("details[open]").length,
    scripts: window.planted === undefined ? 0 : 1,
    heading: document.querySelector("h1").textContent,
    charts: [...document.querySelectorAll("svg[role=img]")]
      .filter(each => each.getClientRects().length)
      .map(each => Math.round(each.getBoundingClientRect().width)),
    letters: Math.min(...[...document.querySelectorAll("svg[role=img] text")]
      .filter(each => each.getClientRects().length)
      .map(each => [parseFloat(getComputedStyle(each).fontSize), each.getScreenCTM()])
      .map(([size, matrix]) => size * Math.hypot(matrix.a, matrix.b))),
  });
})()
"""

CLICK = "document.querySelectorAll('summary').forEach(each => each.click())"
FOLLOW = """
(() => {
  document.querySelectorAll('details').forEach(each => each.open = false);
  const link = document.querySelector('.heat td a');
  if (!link) return 0;
  link.click();
  const there = document.getElementById(link.hash.slice(1));
  return there.checkVisibility() ? document.querySelectorAll('details[open]').length : -1;
})()
"""
TAB = """
(() => {
  const all = 'a[href], summary, [tabindex]';
  const shut = each => each.closest('details:not([open])') && !each.matches('summary');
  return [...document.querySelectorAll(all)].filter(each => !shut(each))
    .filter(each => { each.focus(); return document.activeElement !== each; }).length;
})()
"""
PLANT = "fetch('https://example.org/').catch(() => {}); new Image().src = 'http://example.org/x'"


def main(page: Path, scheme: str, widths: list[int], pictures: Path | None) -> dict[str, Any]:
    """What was found at every width."""
    os.environ["QT_QPA_PLATFORM"] = "offscreen"
    preferred = {"dark": 0, "light": 1}[scheme]
    os.environ["QTWEBENGINE_CHROMIUM_FLAGS"] = (
        f"--no-sandbox --disable-gpu --blink-settings=preferredColorScheme={preferred}"
    )
    from PyQt6.QtCore import QEventLoop, QTimer, QUrl
    from PyQt6.QtGui import QImage, QPainter
    from PyQt6.QtWebEngineCore import (
        QWebEnginePage,
        QWebEngineProfile,
        QWebEngineSettings,
        QWebEngineUrlRequestInterceptor,
    )
    from PyQt6.QtWebEngineWidgets import QWebEngineView
    from PyQt6.QtWidgets import QApplication

    application = QApplication(["browser"])
    requests: list[str] = []
    console: list[str] = []

    class Watch(QWebEngineUrlRequestInterceptor):
        def interceptRequest(self, info: Any) -> None:
            requests.append(info.requestUrl().toString())

    class Page(QWebEnginePage):
        def javaScriptConsoleMessage(self, level: Any, message: Any, *where: Any) -> None:
            console.append(str(message))

    profile, watch, loop = QWebEngineProfile(), Watch(), QEventLoop()
    profile.setUrlRequestInterceptor(watch)
    live = Page(profile)
    # Without this Qt drops what a page asks of the network before it is seen here.
    remote = QWebEngineSettings.WebAttribute.LocalContentCanAccessRemoteUrls
    live.settings().setAttribute(remote, True)
    view = QWebEngineView()
    view.setPage(live)

    def wait(milliseconds: int) -> None:
        QTimer.singleShot(milliseconds, loop.quit)
        loop.exec()

    def ask(script: str) -> Any:
        answers: list[Any] = []
        live.runJavaScript(script, lambda answer: (answers.append(answer), loop.quit()))
        loop.exec()
        return answers[0]

    def shoot(name: str, height: int) -> None:
        if pictures is None:
            return
        height = min(height, TALLEST)
        view.resize(view.width(), SCREEN)
        picture = QImage(view.width(), height, QImage.Format.Format_RGB32)
        painter = QPainter(picture)
        for top in range(0, height, SCREEN):
            place = max(0, min(top, height - SCREEN))
            ask(f"scrollTo(0, {place})")
            wait(400)
            painter.drawPixmap(0, place, view.grab())
        painter.end()
        picture.save(str(pictures / f"{name}.png"))

    found = []
    for width in widths:
        view.resize(width, SCREEN)
        view.show()
        live.loadFinished.connect(loop.quit)
        live.load(QUrl.fromLocalFile(str(page.resolve())))
        loop.exec()
        live.loadFinished.disconnect()
        wait(100)
        closed = json.loads(ask(LOOK))
        shoot(f"{page.stem}-{scheme}-{width}", closed["height"])
        view.resize(width, SCREEN)
        ask(CLICK)
        wait(100)
        opened = json.loads(ask(LOOK))
        shoot(f"{page.stem}-{scheme}-{width}-open", opened["height"])
        unreachable = ask(TAB)
        found.append(
            {"closed": closed, "opened": opened, "unreachable": unreachable, "led": ask(FOLLOW)}
        )
    seen = {"requests": list(requests), "console": list(console), "at": found}
    ask(PLANT)
    wait(200)
    seen["planted"] = {"requests": requests[len(seen["requests"]) :], "console": len(console)}
    view.close()
    application.processEvents()
    return seen


if __name__ == "__main__":
    sizes = [int(width) for width in sys.argv[3].split(",")]
    folder = Path(sys.argv[4]) if len(sys.argv) > 4 else None
    print("FOUND " + json.dumps(main(Path(sys.argv[1]), sys.argv[2], sizes, folder)), flush=True)
    # The browser's own shutting down may crash, and has nothing to do with the page.
    os._exit(0)
