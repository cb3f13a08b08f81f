"""A third party's format: installed by pip, found, listed and trained beside the built-in ones."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests import small_suite, toy

SETUP = """\
[metadata]
name = mtlplug-choice
version = 2.5

[options]
py_modules = choice_format

[options.entry_points]
mtlplug =
    choice = choice_format
"""

FORMAT = '''\
"""MC: which of several answers fits? Every choice is a sequence; all travel together."""

from torch import nn

import mtlplug
from mtlplug.errors import MtlplugError
from mtlplug.formats import Feature, TaskFormat
from mtlplug.heads import TokenHead
from mtlplug.ragged import log_softmax_per_feature, split


class MultipleChoice(TaskFormat):
    code = "MC"
    title = "multiple choice"
    headline = "right"
    columns = ("question", "choices", "answer")

    def features(self, task, rows, encode):
        for row in rows:
            if not 0 <= row["answer"] < len(row["choices"]):
                raise MtlplugError(f"{row.where}: answer {row['answer']} is none of the choices")
            pairs = ((row["question"], choice) for choice in row["choices"])
            sequences = tuple(encode.texts(pairs))
            firsts = [sum(map(len, sequences[:number])) for number in range(len(sequences))]
            yield Feature(sequences, firsts, [row["answer"]], row["answer"])

    def head(self, task, hidden_size):
        return TokenHead(hidden_size, 1)

    def loss(self, scores, targets, splits):
        return -log_softmax_per_feature(scores[:, 0], splits)[splits.starts_B + targets]

    def decode(self, task, scores, splits):
        return [int(part.argmax()) for part in split(scores[:, 0], splits)]

    def metrics(self, task, predictions, references):
        right = sum(ours == gold for ours, gold in zip(predictions, references))
        return {"right": 100 * right / len(references)}


@mtlplug.hookimpl
def mtlplug_task_formats():
    return [MultipleChoice()]
'''

TASK = """
[tasks.choices]
format = "MC"
train = "choices/train.jsonl"
valid = "choices/valid.jsonl"
"""

BOTH = """
import sys
from mtlplug.cli import main
main(["plugins"], standalone_mode=False)
main(sys.argv[1:])
"""
"""Two commands in one process, which would import torch twice otherwise."""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed the third party's distribution."""
    project = tmp_path_factory.mktemp("project")
    (project / "setup.cfg").write_text(SETUP)
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
    )
    (project / "choice_format.py").write_text(FORMAT)
    target = tmp_path_factory.mktemp("site")
    options = "--quiet --no-deps --no-build-isolation --no-index --disable-pip-version-check"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options.split(), "--target", target, project],
        check=True,
        env=small_suite.outside(),
    )
    return target


def write_suite(folder: Path) -> Path:
    """The small suite with a task of the new format."""
    suite = small_suite.write(folder)
    suite.write_text(suite.read_text() + TASK)
    (folder / "choices").mkdir()
    for split, rows in small_suite.ROWS.items():
        draw = random.Random(split)
        with (folder / "choices" / f"{split}.jsonl").open("w") as file:
            for number in range(rows):
                # The right choice is one of a few words that are right in other rows too.
                choices = [draw.choice(toy.WORDS[5:]) for _ in range(2 + number % 3)]
                answer = draw.randrange(len(choices))
                choices[answer] = draw.choice(toy.WORDS[:5])
                row = {"question": "w9", "choices": choices, "answer": answer}
                print(json.dumps(row), file=file)
    return suite


def test_mtlplug_task_formats_of_a_third_party(installed: Path, tmp_path: Path) -> None:
    """`mtlplug plugins` lists it; it trains in one mixed batch with SL and C, the core as it is."""
    suite, output = write_suite(tmp_path), tmp_path / "run"
    everything = 3 * small_suite.ROWS["train"]  # all features are one batch
    arguments = f"run --groups SL+C+MC --batch-size {everything} --max-epochs 20 --log-every 1 "
    arguments += "--learning-rate 1e-2"
    done = subprocess.run(
        [sys.executable, "-c", BOTH, *arguments.split(), "--suite", suite, "--output", output],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=small_suite.outside(PYTHONPATH=str(installed)),
    )
    assert done.returncode == 0, done.stderr[-3000:]

    (listed,) = [line for line in done.stdout.splitlines() if "│ choice " in line]
    assert all(part in listed for part in ("mtlplug-choice", "2.5", "MC (multiple choice)", "ok"))

    report = json.loads((output / "report.json").read_text())
    assert {name: task["format"] for name, task in report["tasks"].items()} == {
        "tags": "SL",
        "kinds": "C",
        "choices": "MC",
    }
    ours = report["tasks"]["choices"]
    assert ours["metric"] == "right"
    metrics = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert sum(line["event"] == "step" for line in metrics) == report["epochs"]
    assert ours["score"] > ours["untrained"]
    assert ours["loss"] < metrics[0]["scores"]["choices"]["loss"] / 2
    assert load_file(output / "heads" / "choices.safetensors")["projection.weight"].shape == (1, 16)
    run = json.loads((output / "run.json").read_text())
    assert "2.5" in [each["version"] for each in run["plugins"] if each["formats"] == ["MC"]]


def test_the_format_is_gone_when_it_is_not_installed(tmp_path: Path) -> None:
    """Without the distribution on the path the same suite is refused: the test above can fail."""
    result = small_suite.command("tasks", "--suite", write_suite(tmp_path))
    assert result.exit_code == 2
    assert "no task format 'MC' is installed" in result.stderr
