"""`mtlplug doctor` as users start it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mtlplug.doctor import command as doctor
from mtlplug.plugin_manager import load_plugins
from tests import small_suite
from tests.small_suite import command

BUILT_IN = ("C", "QA", "SL")

WRONG = '''\
"""BM: a loss that is a mean over what it is given, which differs from rank to rank."""

from torch.nn.functional import cross_entropy

import mtlplug
from mtlplug.formats import Feature, TaskFormat
from mtlplug.heads import SequenceHead


class BatchMean(TaskFormat):
    code, title, headline = "BM", "mean over the batch", "right"
    columns = ("text", "label")

    def features(self, task, rows, encode):
        rows = list(rows)
        texts = ((row["text"], None) for row in rows)
        for row, encoded in zip(rows, encode.texts(texts), strict=True):
            yield Feature((encoded,), [0], [row["label"] == "odd"], row["label"])

    def head(self, task, hidden_size):
        return SequenceHead(hidden_size, 2)

    def loss(self, scores, targets, splits):
        losses = cross_entropy(scores, targets.long(), reduction="none")
        # The item whose share is one of so many here, of another number elsewhere.
        return losses * losses.detach().mean()

    def decode(self, task, scores, splits):
        return scores.argmax(1).tolist()

    def metrics(self, task, predictions, references):
        return {"right": 0.0}


@mtlplug.hookimpl
def mtlplug_task_formats():
    return [BatchMean()]
'''

TASK = """
[tasks.means]
format = "BM"
train = "kinds/train.tsv"
valid = "kinds/valid.tsv"
columns = { text = "sentence", label = "kind" }
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a small suite of three formats."""
    return small_suite.write(tmp_path_factory.mktemp("suite"))


def test_doctor_without_gradient(suite: Path) -> None:
    """Machine, plugins and model are checked; each line begins with its status; exit code 0."""
    result = command("doctor", "--suite", suite)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert any(line.split()[:3] == ["ok", "road", "packed:"] for line in lines)
    assert not any(line.startswith("bad") or "ZeRO" in line for line in lines)
    assert lines[-1].endswith("ok")


def test_doctor_checks_the_gradient(suite: Path) -> None:
    """With `--zero` the built-in formats pass on two ranks; `--json` prints nothing but JSON."""
    result = command("doctor", "--suite", suite, "--zero", "2", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    checks = {check["name"]: check for check in found["checks"]}
    assert found["ok"]
    assert checks["ZeRO-2, 2 ranks"]["facts"]["difference"] < 1e-6
    assert checks["gradient, control"]["status"] == "ok"
    assert all(f"({code})" in checks["heads"]["found"] for code in BUILT_IN)


def test_doctor_finds_a_wrong_format(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A third party's loss that depends on its company is bad, and the exit code is 1."""
    site = tmp_path / "site"
    folder = site / "mtlplug_batch_mean-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: mtlplug-batch-mean\nVersion: 1.0\n"
    )
    (folder / "entry_points.txt").write_text("[mtlplug]\nmean = batch_mean\n")
    (site / "batch_mean.py").write_text(WRONG)
    mine = suite.with_name("wrong.toml")
    mine.write_text(suite.read_text() + TASK)
    arguments = ["doctor", "--suite", mine, "--zero", "1", "--ranks", "1", "--json"]
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", str(site))  # of the process that the doctor starts
    done = command(*arguments, "--groups", "means+kinds")
    assert done.exit_code == 1, done.output
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert checks["plugin mean"]["facts"]["formats"] == ["BM"]
    assert checks["ZeRO-1, 1 rank"]["status"] == "bad"
    assert checks["ZeRO-1, 1 rank"]["facts"]["difference"] > 1e-4
    assert "QA, SL" in checks["formats"]["found"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--zero 0,4", "unknown ZeRO stage '4'; known: 0, 1, 2, 3"),
        ("--zero all", "unknown ZeRO stage 'all'"),
        ("--zero 1 --ranks 0", "--ranks is 0; it must be 1 to 16"),
        ("--zero 1 --ranks 17", "--ranks is 17; it must be 1 to 16"),
        ("--ranks 2", "add --zero 0,1,2,3"),
        ("--groups SL", "add --zero 0,1,2,3"),
        ("--zero 1 --groups XX", "unknown group 'XX'"),
        ("--model ./no/such", "the model folder 'no/such' does not exist"),
        ("--suite nosuch", "unknown suite 'nosuch'"),
    ],
)
def test_doctor_refuses(arguments: str, sentence: str, suite: Path) -> None:
    """What cannot be checked is refused in one sentence, with exit code 2, before any check."""
    result = command("doctor", "--suite", suite, *arguments.split())
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""


def test_something_bad_is_exit_code_one(suite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One bad check among good ones decides the exit code."""
    check = doctor.Check("odd", "bad", "broken", "mend it")
    monkeypatch.setattr(doctor, "model_checks", lambda *_: [check])
    result = command("doctor", "--suite", suite)
    assert result.exit_code == 1
    assert "mend it" in result.stdout
    assert "1 bad" in result.stdout.splitlines()[-1]


def test_two_tasks_of_every_format(suite: Path) -> None:
    """Without `--groups` each format is checked on its first two tasks, on some of their rows."""
    more = suite.with_name("more.toml")
    task = TASK.replace('"BM"', '"C"')
    more.write_text(suite.read_text() + task + task.replace("means", "third"))
    workspace = doctor.open_workspace({"suite": str(more)})
    chosen = doctor._some_tasks(workspace)
    assert [task.name for task in chosen if task.format == "C"] == ["kinds", "means"]
    assert {task.format for task in chosen} == set(load_plugins().formats)
    assert len(doctor._data(workspace, chosen[:1])[0].stores["train"]) <= doctor.ROWS
