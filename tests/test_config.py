"""Where the value of an option comes from, and under which names it may be given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest

from mtlplug.cli import run as run_command
from mtlplug.config import ALIASES, Layer, RunConfig, merge, resolve
from mtlplug.errors import MtlplugError
from mtlplug.option_values import tables
from mtlplug.workspace import Workspace, open_workspace
from tests import small_suite
from tests.small_suite import command


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a small suite, whose defaults say `learning_rate = 1e-3`."""
    return small_suite.write(tmp_path_factory.mktemp("suite"))


def opened(suite: Path, **options: Any) -> Workspace:
    """A workspace of the suite."""
    return open_workspace({"suite": str(suite), "groups": "SL", **options})


def test_precedence(suite: Path, tmp_path: Path) -> None:
    """The command line wins over --set, that over --config, that over the suite, that over ours."""
    file = tmp_path / "run.toml"
    file.write_text("seed = 1\npatience = 1\nmax_tokens = 1000\nbatch-size = 4\n")
    given = {"config": file, "set": {"seed": 2, "patience": 2}, "seed": 3, "max_epochs": None}
    workspace = opened(suite, **given)
    config, origins = workspace.config, workspace.origins
    assert (config.seed, config.patience, config.max_tokens, config.batch_size) == (3, 2, 1000, 4)
    assert (config.max_epochs, config.log_every, config.weight_decay) == (2, 2, 0.0)
    assert origins["seed"] == "command line"
    assert origins["patience"] == "--set"
    assert origins["max_tokens"] == origins["batch_size"] == str(file)
    assert origins["log_every"] == "suite 'tiny'"
    assert "weight_decay" not in origins


def test_a_file_for_everything(suite: Path, tmp_path: Path) -> None:
    """Suite, groups and changes to tasks may stand in the file alone."""
    file = tmp_path / "run.toml"
    file.write_text(
        f'suite = "{suite}"\ngroups = "QA"\noutput = "here"\n'
        "[tasks.spans]\nweight = 2\noptions = { stride = 4 }\n"
    )
    workspace = open_workspace(
        {"config": file, "set": tables(None, None, ("tasks.spans.weight=3",))}
    )
    assert workspace.config.groups == "QA"
    assert workspace.config.output == Path("here")
    task = workspace.suite.tasks["spans"]
    assert (task.weight, task.option("stride"), task.option("max_question")) == (3.0, 4, 8)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("learning_rate=3e-5", {"learning_rate": 3e-5}),
        ("learning-rate=3e-5", {"learning_rate": 3e-5}),
        ("groups=SL+C", {"groups": "SL+C"}),
        ("tasks.a.options.stride=64", {"tasks": {"a": {"options": {"stride": 64}}}}),
        ('tasks."a.b".weight=2', {"tasks": {"a.b": {"weight": 2}}}),
        ("tasks.a.labels=['x', 'y']", {"tasks": {"a": {"labels": ["x", "y"]}}}),
    ],
)
def test_set(line: str, expected: dict[str, Any]) -> None:
    """A dotted key and a value as TOML has it; a plain word needs no quotes."""
    assert tables(None, None, (line,)) == expected


@pytest.mark.parametrize("line", ["nothing", "=3", "a b=3", "[x]=3"])
def test_set_refuses(line: str) -> None:
    """What is no key and value is refused with examples."""
    with pytest.raises(click.BadParameter, match=r"KEY=VALUE, such as learning_rate=3e-5"):
        tables(None, None, (line,))


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_names_of_transformers(alias: str, name: str) -> None:
    """Each alias is an option of the command, a key of --set and --config, and means ours."""
    option = next(each for each in run_command.params if each.name == name)
    assert f"--{alias.replace('_', '-')}" in option.opts
    value = {"str": "x", "int": 7, "float": 0.5, "bool": True}.get(
        str(RunConfig.__dataclass_fields__[name].type), "x"
    )
    values, _ = merge([Layer("--set", {alias: value})])
    assert str(values[name]) == str(value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            "--set learning_rat=1",
            "unknown option 'learning_rat' (did you mean 'learning_rate'",
        ),
        ("--set seed=9223372036854775808", "--seed is 9223372036854775808; it must be below 2^63"),
        ("--set weight_decay=nan", "--weight-decay is nan; it must be 0 or more"),
        ("--set seed=x", "--set: option 'seed' is 'x'; it should be of type int"),
        ("--set tasks.tag.weight=2", "unknown task 'tag' (did you mean 'tags'?); known: kinds"),
        ("--set tasks.tags.wight=2", "as changed by --set or --config: unknown key 'wight' (did"),
        ("--set tasks.spans.options.strid=2", "unknown key 'strid' (did you mean 'stride'?)"),
        ("--set tasks.tags=2", "tags is 2; it should be a table"),
        ("--set tasks=2", "option 'tasks' is 2"),
        ("--config nowhere.toml", "file nowhere.toml cannot be read"),
        ("--config {bad}", "bad.toml is bad TOML"),
        ("--config {unknown}", "unknown.toml: unknown option 'sed' (did you mean 'seed'?)"),
    ],
)
def test_wrong_input(suite: Path, tmp_path: Path, given: str, said: str) -> None:
    """One sentence with the place, and what may be meant."""
    (tmp_path / "bad.toml").write_text("a = = 3\n")
    (tmp_path / "unknown.toml").write_text("sed = 3\n")
    places = {name: tmp_path / f"{name}.toml" for name in ("bad", "unknown")}
    result = command("tasks", "--suite", suite, *given.format(**places).split())
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_suite_sets_no_option_of_the_user() -> None:
    """What is run and where is not for a suite to say."""
    for name in ("output", "tasks", "ignore_memory"):
        with pytest.raises(MtlplugError, match=f"unknown default '{name}'"):
            resolve({}, {name: "x"}, "suite 'x'")


def test_a_suite_is_told_of_what_it_may_set() -> None:
    """Nor is another name of such an option what may be meant; of those it may set it is."""
    with pytest.raises(MtlplugError) as told:
        resolve({}, {"output": "x"}, "suite 'x'")
    assert "output_dir" not in str(told.value)
    with pytest.raises(MtlplugError, match="did you mean 'max_seq_length'"):
        resolve({}, {"max_seq_lengt": 3}, "suite 'x'")


@pytest.mark.parametrize(
    ("ranks", "more", "expected"), [("1", (), 8), ("4", (), 32), ("2", ("3",), 48)]
)
def test_batch_size_of_the_trainer(
    suite: Path, monkeypatch: pytest.MonkeyPatch, ranks: str, more: tuple[str, ...], expected: int
) -> None:
    """Per device, times ranks, times accumulation is the batch of a step."""
    seen: dict[str, Any] = {}
    monkeypatch.setattr("mtlplug.train", seen.update, raising=False)
    monkeypatch.setenv("WORLD_SIZE", ranks)
    times = [each for value in more for each in ("--gradient_accumulation_steps", value)]
    result = command("run", "--groups", "SL", "--per_device_train_batch_size", "8", *times)
    assert result.exit_code == 0, result.output
    assert seen["batch_size"] == expected


@pytest.mark.parametrize(
    "given",
    [
        ("--gradient_accumulation_steps", "2"),
        ("--per_device_train_batch_size", "2", "--batch-size", "4"),
    ],
)
def test_batch_sizes_that_say_nothing(given: tuple[str, ...]) -> None:
    """Accumulation alone, or two batch sizes, are refused."""
    result = command("run", "--groups", "SL", *given)
    assert result.exit_code == 2
    assert "--batch-size" in result.stderr


@pytest.mark.parametrize(
    ("given", "precision"), [(("--bf16",), "bf16"), (("--precision", "fp32"), "fp32"), ((), None)]
)
def test_precision_as_a_flag(
    monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...], precision: str | None
) -> None:
    """`--bf16` is `--precision bf16`; without either it is left open."""
    seen: dict[str, Any] = {}
    monkeypatch.setattr("mtlplug.train", seen.update, raising=False)
    assert command("run", "--groups", "SL", *given).exit_code == 0
    assert seen["precision"] == precision
