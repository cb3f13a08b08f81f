"""What a page shows that a command prints, compared with what it printed.

`python3 -m tests.shown PAGE FILE` compares the first `<!-- prints -->` block of a page with a file.
It needs the standard library alone.
"""

from __future__ import annotations

import math
import re
import sys
from functools import partial
from pathlib import Path

BLOCK = re.compile(r"(?:<!-- ([\w:. -]+) -->\n)?^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
GAP = re.compile(r"^\.\.\.$", re.MULTILINE)

LEFT_OUT = re.compile(
    r"^epoch \d+  step .*\n"  # comes every ten seconds, however far the run is
    r"|^\[\d{4}-\d\d-\d\d .*\n"  # DeepSpeed's log
    r"|(?:[\d,.]+ (?:s|min|GiB|tokens/s)\b ?)+"
    r"|(?<=tokens per second).*|(?<=waiting for the loader).*",
    re.MULTILINE,
)
BEST = re.compile(r"(?<=validation scores, )epoch \d+")
PIECE = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?|[^\s\d\u2500-\u257f]+")
"""A number, or letters and signs; frames of tables and blanks are as wide as what is in them."""


def pieces(text: str) -> list[str]:
    """Words and numbers, but for what is measured anew each time."""
    return PIECE.findall(LEFT_OUT.sub("", text))


def equal(shown: str, found: str, within: float) -> bool:
    """Whether two pieces are equal; fractions nearly, as they depend on the processor."""
    if "." not in shown or shown == found:
        return shown == found
    try:
        return math.isclose(float(shown), float(found), rel_tol=0.1, abs_tol=within)
    except ValueError:
        return False


def fits(shown: str, found: str, within: float = 0.05) -> bool:
    """Whether a command printed what is shown; a fraction may be off by a tenth, or `within`."""
    printed = pieces(f"<begin>\n{found}\n<end>")
    for part in map(pieces, GAP.split(f"<begin>\n{shown}\n<end>")):
        starts = range(len(printed) - len(part) + 1)
        same = (all(map(partial(equal, within=within), part, printed[n:])) for n in starts)
        start = next((n for n, found_here in enumerate(same) if found_here), None)
        if start is None:
            return False
        printed = printed[start + len(part) :]
    return True


def main(page: str, file: str) -> int:
    """Compare a page's first `<!-- prints -->` block with a file; more may come before.

    Training rounds otherwise on another processor or number of threads: scores of the best epoch
    were then up to 2 points apart, and the loss of a task, which hangs on a few of 150 rows, 0.07
    and 0.16. Which epoch is the best, of several that are near, is left out.
    """
    nearly = partial(fits, within=0.1)
    blocks = BLOCK.findall(Path(page).read_text(encoding="utf-8"))
    shown = BEST.sub("", next(text for mark, _, text in blocks if mark == "prints"))
    found = BEST.sub("", Path(file).read_text(encoding="utf-8"))
    if nearly(f"...\n{shown}", found):
        return 0
    missing = [line for line in shown.splitlines() if not nearly(f"...\n{line}\n...", found)]
    missing = missing or ["its lines in this order, and no other between"]
    print(f"{page} shows what was not printed:", *missing, sep="\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
