"""`mtlplug predict` beside transformers' pipelines: the same model, exported, on the same texts.

Texts of mixed lengths, as a file of them may have: requests (SNIPS), sentences of many genres
(GUM), and a tenth, or a third, film reviews. The pipelines take them in batches of several sizes,
each padded to its longest. In turns; before, all answers are compared: entities and labels must be
equal, and their scores; the run needs a max_length of 512, which is the pipelines'. One thread is
timed by the processor's clock, several by the clock on the wall: nothing else should run then.

Usage: python benchmarks/predict.py RUN --data DIR --tags TASK --texts TASK \
    --threads 1 --threads 2 --output benchmarks/results/predict.json
"""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import torch
from transformers import pipeline

from mtlplug.inference.export import export_task
from mtlplug.inference.inputs import read_rows
from mtlplug.inference.trained import TrainedRun, open_run
from mtlplug.processor import processor

SHORT = ("SL/snips/valid.conll.gz", "SL/gum/valid.conll.gz")
LONG = "C/imdb_cad/dev.tsv.gz"
SHARES = {"a tenth long": 0.1, "a third long": 1 / 3}
BATCH_SIZES = (1, 8, 32)
MOST_WORDS = 300  # a review of more is left out, as it may have to be cut
WORD = re.compile(r"[^\W_]+|[^\w\s]|_")
"""Signs are words of their own: the pipeline takes parts of a word between signs for words."""
AGREEMENT = 1e-4
PACKAGES = ("torch", "transformers", "tokenizers")

Words = list[str]
Answers = list[Any]


@click.command()
@click.argument("run", type=click.Path(exists=True, path_type=Path))
@click.option("--data", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--tags", required=True, help="A task that labels words.")
@click.option("--texts", required=True, help="A task that labels texts.")
@click.option("--number", default=300, show_default=True, help="Texts.")
@click.option("--turns", default=5, show_default=True)
@click.option("--threads", multiple=True, default=[1], show_default=True, help="May be repeated.")
@click.option("--output", type=click.Path(path_type=Path), help="Write the figures as JSON.")
def main(
    run: Path,
    data: Path,
    tags: str,
    texts: str,
    number: int,
    turns: int,
    threads: Sequence[int],
    output: Path | None,
) -> None:
    """Print and write texts a second, and how much faster we are than each pipeline."""
    opened = open_run(run, [tags, texts], device="cpu")
    figures: dict[str, Any] = {
        "command": f"python benchmarks/predict.py RUN --data DIR --tags {tags} --texts {texts} "
        f"--number {number} --turns {turns} " + " ".join(f"--threads {each}" for each in threads),
        "processor": processor().name,
        "load before": round(os.getloadavg()[0], 1),
        "versions": {name: version(name) for name in PACKAGES},
        "model": opened.run["options"]["model"].rstrip("/").split("/")[-2:],
    }
    with tempfile.TemporaryDirectory() as folder:
        tasks = (tagging(opened, tags, folder), classifying(opened, texts, folder))
        for count, (name, share) in itertools.product(threads, SHARES.items()):
            torch.set_num_threads(count)
            inputs = mixed(data, number, share)
            words = round(statistics.mean(map(len, inputs)), 1)
            found = figures.setdefault(f"threads: {count}", {})
            found[name] = {"texts": len(inputs), "mean words": words}
            for ways in tasks:
                found[name][next(iter(ways))] = compared(ways, inputs, turns, count)
    text = json.dumps(figures, indent=1)
    print(text)
    if output:
        output.write_text(text + "\n", encoding="utf-8")


def mixed(data: Path, number: int, share: float) -> list[Words]:
    """Texts as words, in random order, a share of them long."""
    draw, found = random.Random(0), []
    long = round(number * share)
    for name, wanted in [*((name, (number - long) // 2) for name in SHORT), (LONG, long)]:
        rows = read_rows(data / name, "tsv" if name == LONG else "conll", {})
        texts = (" ".join(row.get("tokens", ())) or longest(row) for row in rows)
        words = [WORD.findall(text) for text in texts]
        found += draw.sample([each for each in words if len(each) <= MOST_WORDS], wanted)
    draw.shuffle(found)
    return found


def longest(row: dict[str, Any]) -> str:
    """The longest column of a row."""
    return max((str(value) for value in row.values()), key=len)


def tagging(run: TrainedRun, task: str, folder: str) -> dict[str, Callable[..., Answers]]:
    """Entities of words, by us and by pipelines of several batch sizes."""
    export_task(run, task, Path(folder, task))
    tagger = pipeline(
        "token-classification", f"{folder}/{task}", aggregation_strategy="first", device="cpu"
    )

    def ours(inputs: Sequence[Words]) -> Answers:
        found = run.predict(task, [{"tokens": words} for words in inputs])
        return [
            [(e["type"], e["start"], e["end"], e["score"]) for e in each["entities"]]
            for each in found
        ]

    def theirs(inputs: Sequence[Words], size: int) -> Answers:
        options = {"is_split_into_words": True, "delimiter": " ", "batch_size": size}
        return [
            [(e["entity_group"], e["start"], e["end"], float(e["score"])) for e in each]
            for each in tagger(list(inputs), **options)
        ]

    return {f"tagging: {task}": ours} | by_size(theirs)


def classifying(run: TrainedRun, task: str, folder: str) -> dict[str, Callable[..., Answers]]:
    """Labels of texts, by us and by pipelines of several batch sizes."""
    export_task(run, task, Path(folder, task))
    classifier = pipeline("text-classification", f"{folder}/{task}", device="cpu")

    def ours(inputs: Sequence[Words]) -> Answers:
        found = run.predict(task, map(" ".join, inputs))
        return [[(each["label"], each["score"])] for each in found]

    def theirs(inputs: Sequence[Words], size: int) -> Answers:
        texts = [" ".join(words) for words in inputs]
        found = classifier(texts, batch_size=size, truncation=True)
        return [[(each["label"], each["score"])] for each in found]

    return {f"classifying: {task}": ours} | by_size(theirs)


def by_size(theirs: Callable[[Sequence[Words], int], Answers]) -> dict[str, Callable[..., Answers]]:
    """A pipeline under each batch size."""
    return {
        f"pipeline, batches of {size}": lambda inputs, size=size: theirs(inputs, size)
        for size in BATCH_SIZES
    }


def compared(
    ways: dict[str, Callable[..., Answers]], inputs: Sequence[Words], turns: int, threads: int
) -> dict[str, Any]:
    """Check that all ways agree, then time them in turns."""
    us, *others = ways
    answers = {name: way(inputs) for name, way in ways.items()}
    worst = max(difference(answers[us], answers[other]) for other in others)
    clock = time.process_time if threads == 1 else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for name in (name for _ in range(turns) for name in ways):
        started = clock()
        ways[name](inputs)
        seconds[name].append(clock() - started)
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "answers": sum(map(len, answers[us])),
        "largest difference of scores": worst,
        "texts a second": {name: round(len(inputs) / value, 1) for name, value in middle.items()},
        "faster by": {name: round(middle[name] / middle[us], 2) for name in others},
    }


def difference(ours: Answers, theirs: Answers) -> float:
    """The largest difference of scores, where all else is equal.

    Raises:
        SystemExit: it is not, or scores are too far apart.
    """
    worst = 0.0
    for number, (our, their) in enumerate(zip(ours, theirs, strict=True)):
        if [each[:-1] for each in our] != [each[:-1] for each in their]:
            raise SystemExit(f"answers to text {number} differ:\n{our}\n{their}")
        scores = [abs(a[-1] - b[-1]) for a, b in zip(our, their, strict=True)]
        worst = max([worst, *scores])
    if worst > AGREEMENT:
        raise SystemExit(f"scores differ by {worst}")
    return worst


if __name__ == "__main__":
    main()
