"""Wrong input ends in one sentence with the place and the remedy, and leaves nothing behind."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from mtlplug.options import SECONDS_BEHIND
from tests import small_suite
from tests.small_suite import command


class Wrong(NamedTuple):
    """One thing a user may get wrong, and what must be said about it.

    Attributes:
        name: of the case.
        says: fragments of the sentence: what is wrong, where, and what to do.
        options: of `mtlplug run`; `{folder}` is the suite's folder.
        files: content of files beside the suite; None removes one.
        suite: replacements in the suite file.
    """

    name: str
    says: tuple[str, ...]
    options: str = ""
    files: Mapping[str, str | bytes | None] = {}
    suite: Mapping[str, str] = {}


def deepspeed(name: str, content: str | None, *says: str, options: str = "") -> Wrong:
    """A DeepSpeed configuration that cannot be used."""
    options = f"--deepspeed-config {{folder}}/ds.json {options}"
    return Wrong(name, ("ds.json", *says), options, {"ds.json": content})


CASES = [
    # What to train on.
    Wrong("unknown group", ("unknown group 'XX'", "groups C, QA, SL, words"), "--groups SL+XX"),
    Wrong("empty group", ("lacks a group", "for example SL+C"), "--groups SL+"),
    Wrong(
        "unknown task in a group",
        ("tiny.toml: group 'words' names 'kindz'", "did you mean 'kinds'?"),
        suite={'"kinds"]': '"kindz"]'},
    ),
    Wrong("unknown suite", ("unknown suite 'nosuch'", "demo", "TOML file"), "--suite nosuch"),
    Wrong("no suite file", ("no.toml does not exist", "--suite"), "--suite {folder}/no.toml"),
    Wrong("bad TOML", ("tiny.toml is bad TOML", "line 2"), suite={"\n[defaults]": "[defaults"}),
    Wrong(
        "unknown key in a task",
        ("tiny.toml: task 'tags'", "unknown key 'tain'", "did you mean 'train'?"),
        suite={'train = "tags': 'tain = "tags'},
    ),
    Wrong(
        "unknown key of the suite",
        ("tiny.toml: unknown key 'titel'", "did you mean 'title'?"),
        suite={"title =": "titel ="},
    ),
    Wrong(
        "unknown default",
        ("suite 'tiny': unknown default 'patiense'", "patience"),
        suite={"log_every": "patiense"},
    ),
    Wrong(
        "default of another type",
        ("suite 'tiny': default 'batch_size' is 'many'", "int"),
        suite={"batch_size = 8": 'batch_size = "many"'},
    ),
    Wrong(
        "unknown format",
        ("tiny.toml: task 'tags': no task format 'SEQ' is installed", "installed: C, QA, SL"),
        suite={'format = "SL"': 'format = "SEQ"'},
    ),
    Wrong(
        "unknown option of a format",
        ("tiny.toml: task 'spans'", "unknown key 'strid'", "did you mean 'stride'?"),
        suite={"stride =": "strid ="},
    ),
    Wrong(
        "no validation split",
        ("task 'kinds' has no split 'valid' (it has: train)", "in the suite"),
        suite={'valid = "kinds/valid.tsv"\n': ""},
    ),
    # The data.
    Wrong("no data folder", ("data folder", "nowhere does not exist", "--data"),
          "--data {folder}/nowhere"),
    Wrong("no file", ("tags/train.conll does not exist", "--data"),
          files={"tags/train.conll": None}),
    Wrong("empty file", ("tags/valid.conll has no rows", "copy it again"),
          files={"tags/valid.conll": ""}),
    Wrong("only a header", ("kinds/train.tsv has no rows", "copy it again"),
          files={"kinds/train.tsv": "sentence\tkind\n"}),
    Wrong("ragged CoNLL line", ("tags/train.conll, line 2 lacks", "'w2'", "mend the line"),
          files={"tags/train.conll": "w1 O\nw2\nw3 O\n"}),
    Wrong("too many fields", ("kinds/valid.tsv, line 3 has 3 fields", "quoting or separator"),
          files={"kinds/valid.tsv": "sentence\tkind\nw1\todd\nw2\todd\tw3\n"}),
    Wrong("bad JSON", ("spans/train.json is bad JSON", "mend it"),
          files={"spans/train.json": '{"data": [{"paragraphs": '}),
    Wrong("JSON of another kind", ("spans/valid.json: 'data' is missing",),
          files={"spans/valid.json": '{"rows": []}'}),
    Wrong("wrong encoding", ("kinds/train.tsv, line 2 is not utf-8", "encoding = "),
          files={"kinds/train.tsv": "sentence\tkind\ncafé\todd\n".encode("cp1252")}),
    Wrong("unknown column of the file",
          ("kinds/train.tsv, line 2 has no column 'sort'", "it has: sentence, kind", "columns"),
          suite={'label = "kind"': 'label = "sort"'}),
    Wrong("unknown column of the format",
          ("tiny.toml: task 'kinds'", "unknown key 'lable'", "did you mean 'label'?"),
          suite={'label = "kind"': 'lable = "kind"'}),
    Wrong("unknown label of a text", ("kinds/train.tsv, line", "unknown label 'odd'", "even"),
          suite={"columns = {": 'labels = ["even"]\ncolumns = {'}),
    Wrong("unknown label of a word",
          ("tags/train.conll, line", "unknown label 'B-LOW'", "known: O"),
          suite={'valid = "tags': 'labels = ["O"]\nvalid = "tags'}),
    Wrong("no usable row", ("split 'valid' of task 'kinds' has no usable row", "without label"),
          files={"kinds/valid.tsv": "sentence\tkind\nw1\t\n"}),
    # The encoder.
    Wrong("no model", ("the model folder", "nowhere' does not exist", "give the folder"),
          "--model {folder}/nowhere"),
    Wrong("model without configuration", ("model' has no config.json", "give the folder"),
          files={"model/config.json": None}),
    Wrong("model without weights", ("model' has no weights", "give the folder"),
          files={"model/model.safetensors": None}),
    Wrong("damaged weights", ("cannot load the model", "model'", "give the folder"),
          files={"model/model.safetensors": b"\x10\0\0\0\0\0\0\0{"}),
    Wrong("no encoder named", ("suite 'tiny' names no encoder", "--model"),
          suite={'model = "model"\n': ""}),
    # The options.
    Wrong("negative option", ("--batch-size is -4", "1 or more"), "--batch-size -4"),
    Wrong("no epoch", ("--max-epochs is 0", "1 or more"), "--max-epochs 0"),
    Wrong("no row", ("--max-rows-per-task is 0", "1 or more"), "--max-rows-per-task 0"),
    Wrong("learning rate", ("learning rate 5.0 is not between 0 and 1",), "--learning-rate 5"),
    Wrong("precision", ("unknown precision 'fp8'", "bf16, fp16, fp32"), "--precision fp8"),
    Wrong("short sequences", ("max_length 3 of task 'tags'", "8 or more"), "--max-length 3"),
    deepspeed("no DeepSpeed file", None, "does not exist", "--deepspeed-config"),
    deepspeed("DeepSpeed file of no JSON", "{'stage': 1}", "line 1 is not JSON"),
    deepspeed("DeepSpeed section of no object", '{"bf16": true}', "bf16 is not an object but True",
              "ds_configs/"),
    deepspeed("unknown stage", '{"zero_optimization": {"stage": 9}}',
              "zero_optimization.stage is 9", "0, 1, 2, 3", "mend"),
    deepspeed("unknown key of ZeRO", '{"zero_optimization": {"stag": 1}}',
              "zero_optimization.stag is 1", "not permitted", "remove it"),
    deepspeed("DeepSpeed file of no object", "[1]", "is not an object", "ds_configs/"),
    deepspeed("DeepSpeed batch", '{"train_batch_size": 32}', "sets train_batch_size to 32",
              "the run to 8", "--batch-size 32"),
    deepspeed("DeepSpeed micro-batch", '{"train_micro_batch_size_per_gpu": 4}', "to 4",
              "--max-tokens"),
    deepspeed("DeepSpeed clipping", '{"gradient_clipping": 0.5}', "to 0.5", "the run to 1.0",
              "--gradient-clipping 0.5"),
    deepspeed("two precisions", '{"fp16": {"enabled": true}, "bf16": {"enabled": true}}',
              "both fp16 and bf16", "enable one"),
    deepspeed("another precision", '{"bf16": {"enabled": true}}', "asks for bf16",
              "the run for fp32", "--precision"),
]  # fmt: skip


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The suite's folder as it should be."""
    folder = tmp_path_factory.mktemp("sound")
    small_suite.write(folder)
    return folder


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    """A copy of the suite's folder to do wrong in."""
    return Path(shutil.copytree(sound, tmp_path / "suite"))


def start(folder: Path, options: str = "") -> list[str]:
    """Arguments of a run with a cache of its own; later options win."""
    text = "run --groups SL+QA+C --suite {folder}/tiny.toml --cache {folder}/cache "
    text += f"--output {{folder}}/out --max-epochs 1 {options}"
    return text.format(folder=folder).split()


def error_line(*arguments: str) -> str:
    """What a command that must fail says: a single line."""
    result = command(*arguments)
    assert result.exit_code == 2, result.output + str(result.exception)
    assert "Traceback" not in result.output
    (line,) = [line for line in result.stderr.splitlines() if line]
    assert line.startswith("error: ")
    assert result.stdout == ""
    return line.removeprefix("error: ")


def half_written(folder: Path) -> list[Path]:
    """Files that a crash would leave: unfinished ones."""
    return [path for path in folder.rglob("*") if path.suffix == ".tmp"]


def test_the_sound_suite_runs(folder: Path) -> None:
    """Nothing is wrong before something is made wrong: the cases below fail for their reason."""
    assert command(*start(folder)).exit_code == 0
    assert (folder / "out" / "report.json").exists()


@pytest.mark.parametrize("wrong", CASES, ids=lambda wrong: wrong.name)
def test_wrong_input(folder: Path, wrong: Wrong) -> None:
    """One sentence with the place and the remedy, exit code 2, no output, nothing half written."""
    text = (folder / "tiny.toml").read_text()
    for old, new in wrong.suite.items():
        assert old in text
        text = text.replace(old, new)
    (folder / "tiny.toml").write_text(text)
    for name, content in wrong.files.items():
        (folder / name).unlink(missing_ok=True)
        if content is not None:
            data = content if isinstance(content, bytes) else content.encode()
            (folder / name).write_bytes(data)
    line = error_line(*start(folder, wrong.options))
    assert not line[0].isupper(), line
    assert all(fragment in line for fragment in wrong.says), line
    assert not (folder / "out").exists()
    assert half_written(folder) == []


def test_an_output_folder_of_other_files_is_left_alone(folder: Path) -> None:
    """It is refused with or without --overwrite, and nothing in it changes."""
    (folder / "out").mkdir()
    (folder / "out" / "thesis.tex").write_text("mine")
    for options in ("", "--overwrite"):
        line = error_line(*start(folder, options))
        assert "holds no run of mtlplug" in line
        assert "--output" in line
    assert [path.name for path in (folder / "out").iterdir()] == ["thesis.tex"]


def test_an_output_that_is_a_file_is_left_alone(folder: Path) -> None:
    """It is refused, also where a parent of the output is a file."""
    (folder / "out").write_text("mine")
    assert "is a file" in error_line(*start(folder))
    below = error_line(*start(folder, "--output {folder}/out/run"))
    assert "out is a file; choose a folder with --output" in below
    assert (folder / "out").read_text() == "mine"


def test_an_output_folder_with_a_damaged_run_is_refused(folder: Path) -> None:
    """What the folder holds cannot be known."""
    (folder / "out").mkdir()
    (folder / "out" / "run.json").write_text('{"decides": ')
    assert "run.json cannot be read" in error_line(*start(folder))


def test_an_output_folder_of_another_run_is_left_alone(folder: Path) -> None:
    """The difference is shown, with what is there and what is asked for; nothing changes."""
    (folder / "out").mkdir()
    there = json.dumps({"mtlplug": "0.1.0", "decides": {"seed": 1}})
    (folder / "out" / "run.json").write_text(there)
    (folder / "out" / "metrics.jsonl").touch()
    line = error_line(*start(folder))
    assert "seed: 1 there, 13 now" in line
    assert "--overwrite" in line
    assert (folder / "out" / "run.json").read_text() == there


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("inspect nosuch", "unknown task 'nosuch'; known: kinds, spans, tags"),
        ("inspect tags --split test", "task 'tags' has no split 'test'; it has: train, valid"),
        ("inspect tags -n -1", "1 or more"),
        ("tasks --groups XX", "unknown group 'XX'"),
        ("tasks --model nowhere", "cannot load the tokenizer 'nowhere'"),
    ],
)
def test_wrong_input_of_other_commands(folder: Path, arguments: str, says: str) -> None:
    """`tasks` and `inspect` say what is wrong in the same way."""
    options = f"--suite {folder}/tiny.toml --cache {folder}/cache"
    assert says in error_line(*arguments.split(), *options.split())


def test_other_processes_speak_when_the_first_does_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A launcher ends those that would say the same; a mistake of one rank alone is shown."""
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    result = command(*start(folder, "--groups XX"))
    assert result.exit_code == 2
    assert slept == [SECONDS_BEHIND]
    assert re.match(r"error: rank 1 on \S+: unknown group 'XX'", result.stderr)
