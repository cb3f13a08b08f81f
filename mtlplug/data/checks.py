"""Whether the data of a suite's tasks is there and fits their formats, and what to do if not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtlplug.data.fetching import OFFLINE, UnreachableError, offline
from mtlplug.data.hub import leave_the_hub
from mtlplug.data.sources import Source
from mtlplug.data.suites import Suite
from mtlplug.data.tokens import Encode
from mtlplug.errors import MtlplugError
from mtlplug.formats import Row, Task, TaskFormat
from mtlplug.pages.wording import counted

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OK = "ok"
NOT_FETCHED = "not fetched"
NEEDS_FILE = "needs local file"
LICENCE = "blocked by licence"
UNREACHABLE = "unreachable"
BROKEN = "broken"

ROWS = 50
"""First rows of each split that are read and turned into features."""

MAX_LENGTH = 512
ONLINE = f"go online, with {OFFLINE[0]} unset"


@dataclass(frozen=True)
class Finding:
    """What was found about the data of one task.

    Attributes:
        task: its name.
        format: code of its format.
        role: its role.
        state: one of the states above.
        found: the splits that can be read, or what is wrong with the first that cannot.
        remedy: what to do; empty where nothing is to be done.
        info: what the suite says about the task, for people.
    """

    task: str
    format: str
    role: str
    state: str
    found: str
    remedy: str
    info: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "info": dict(self.info)}


def check_suite(
    suite: Suite, formats: Mapping[str, TaskFormat], name: str, data_dir: Path | None = None
) -> Iterator[Finding]:
    """Check the tasks of a suite in their order.

    Args:
        suite: loaded with `data_dir`.
        formats: the installed formats by code.
        name: what the user calls the suite, for the commands that are proposed.
        data_dir: folder given with --data; paths below it, or below the suite file's folder, are
            shown short.
    """
    base = data_dir if data_dir is not None else suite.path.parent if suite.path else Path()
    for task in suite.tasks.values():
        info = suite.info.get(task.name, {})
        state, found, remedy = _checked(task, formats[task.format], info, name, base)
        yield Finding(task.name, task.format, task.role, state, found, remedy, info)


def _checked(
    task: Task, task_format: TaskFormat, info: Mapping[str, Any], suite: str, base: Path
) -> tuple[str, str, str]:
    """State, finding and remedy of one task: those of its first split that is not ok."""
    for split, source in task.sources.items():
        if problem := _missing(source, split, info, f"{suite} --task {task.name}", base):
            return problem
    try:
        _read(task, task_format)
    except UnreachableError as error:
        names = dict.fromkeys(each.dataset for each in task.sources.values() if each.dataset)
        found = f"{', '.join(names)} is not in the hub's cache" if offline() else str(error)
        if not offline():
            leave_the_hub()
        return UNREACHABLE, found, f"{ONLINE}, or name local files in a suite that extends it"
    except MtlplugError as error:
        return BROKEN, str(error), "mend what the sentence names"
    place = "on the hub" if any(source.dataset for source in task.sources.values()) else "as files"
    return OK, f"{', '.join(task.sources)} {place}", ""


def _missing(
    source: Source, split: str, info: Mapping[str, Any], options: str, base: Path
) -> tuple[str, str, str] | None:
    """The problem of a split whose file is not there."""
    if source.path is None or source.path.exists():
        return None
    if source.url is not None:
        fetch = f"mtlplug data fetch {options}"
        if offline() and not source.url.startswith("file:"):
            return UNREACHABLE, f"{split}: {source.url}", f"{ONLINE}, then {fetch}"
        return NOT_FETCHED, f"{split}: {source.url}", fetch
    path = source.path.relative_to(base) if source.path.is_relative_to(base) else source.path
    origin = f" (from {info['source']})" if "source" in info else ""
    put = f"put the file there{origin}, below the folder given with --data"
    if info.get("access") == "licence":
        terms = info.get("licence", "see its source")
        return LICENCE, f"{split}: {path}", f"get the licence ({terms}), then {put}"
    return NEEDS_FILE, f"{split}: {path}", put


def _read(task: Task, task_format: TaskFormat) -> None:
    """Turn the first rows of every split into features.

    Raises:
        MtlplugError: rows cannot be read, or none of them is usable.
    """
    samples = {split: _first_rows(source) for split, source in task.sources.items()}
    learnt = samples.get("train", next(iter(samples.values())))
    facts = task_format.prepare(task, learnt)
    labels = tuple(facts.get("labels", task.labels))
    prepared = replace(task, labels=labels, facts=facts)
    for split, rows in samples.items():
        encode = Encode(_tokenizer(), MAX_LENGTH)
        if not any(True for _ in task_format.features(prepared, rows, encode)):
            counts = counted(encode.counts)
            raise MtlplugError(
                f"{task.sources[split].place}: none of the first {len(rows)} rows can be used"
                f"{f' ({counts})' if counts else ''}; set columns in the suite"
            )


def _first_rows(source: Source) -> list[Row]:
    """Some rows, without regard to `part`; over the network without a download where allowed."""
    remote = source.dataset is not None and not offline()
    # Streaming up to the first row that `only` wants may mean to stream nearly all.
    only = {} if remote else source.only
    return list(islice(replace(source, part="", only=only, streaming=remote).rows(), ROWS))


@lru_cache(maxsize=1)
def _tokenizer() -> PreTrainedTokenizerBase:
    """A tokenizer that knows no word: what it makes of rows shows whether formats take them."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    numbers = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "[PAD]": 3}
    backend = Tokenizer(models.WordLevel(numbers, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, numbers[name]) for name in ("[CLS]", "[SEP]")],
    )
    tokenizer: PreTrainedTokenizerBase = PreTrainedTokenizerFast(tokenizer_object=backend)
    return tokenizer


def all_ok(findings: Iterable[Finding]) -> bool:
    """Whether every task is ok."""
    return all(finding.state == OK for finding in findings)
