"""Hooks of mkdocs: the README is the first page, and files outside `docs/` come along.

Pages link to files of the repository (`../benchmarks/results/bench.json`). On the site they stand
under `files/`, so that every link works wherever the site is put.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))")
README = "index.md"


def on_files(files: Files, config: Any) -> Files:
    """Add the README and every file outside `docs/` that a page links to."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    files.append(File.generated(config, README, content=text))
    pages = [(file.src_uri, file.content_string) for file in files.documentation_pages()]
    outside = {_place(page, link) for page, text in pages for _, link, _ in LINK.findall(text)}
    for place in sorted(place for place in outside if place and not _is_page(place)):
        path = ROOT / place
        for each in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if each.is_file():
                uri = f"files/{each.relative_to(ROOT).as_posix()}"
                files.append(File.generated(config, uri, abs_src_path=str(each)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Let links lead to where their files are on the site."""
    here = page.file.src_uri

    def lead(match: re.Match[str]) -> str:
        place = _place(here, match[2])
        if place is None:
            return match[0]
        if place == "README.md":
            target = README
        elif _is_page(place):
            target = place.removeprefix("docs/")
        elif (ROOT / place).is_dir():
            return f"{match[1]}{_relative(f'files/{_first(place)}', here)}{match[3]}"
        else:
            target = f"files/{place}"
        return f"{match[1]}{_relative(target, here)}{match[3]}"

    return LINK.sub(lead, markdown)


def _place(page: str, link: str) -> str | None:
    """The file of the repository that a link on a page means; None for one elsewhere."""
    if "://" in link or link.startswith("mailto:"):
        return None
    folder = "" if page == README else posixpath.join("docs", posixpath.dirname(page))
    place = posixpath.normpath(posixpath.join(folder, link))
    return place if (ROOT / place).exists() else None


def _is_page(place: str) -> bool:
    return place == "README.md" or (place.startswith("docs/") and not place.endswith(".py"))


def _first(place: str) -> str:
    """Of a folder the file one would open first."""
    found = sorted(each for each in (ROOT / place).iterdir() if each.is_file())
    preferred = [each for each in found if each.suffix in (".md", ".html", ".py")] or found
    return preferred[0].relative_to(ROOT).as_posix()


def _relative(target: str, page: str) -> str:
    return posixpath.relpath(target, posixpath.dirname(page) or ".")
