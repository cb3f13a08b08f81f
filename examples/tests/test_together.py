"""All example formats and SL, QA and C in the same batches: each learns, and the gradient is exact.

Run by `.ci/formats` with everything installed from wheels.
"""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from mtlplug.cli import main
from mtlplug.demo.encoder import save_encoder, save_tokenizer
from mtlplug.demo.generate import demo_suite_path

EXAMPLES = Path(__file__).resolve().parents[1]
BUILT_IN = ("people", "letters", "mood")
GROUPS = "+".join((*BUILT_IN, "MC", "REG", "DEP", "SPAN", "ML", "CRF", "MLM"))
SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": 128,
}


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite of the examples' tasks over the demo, with a tokenizer and encoder of its own."""
    folder = tmp_path_factory.mktemp("together")
    demo = demo_suite_path().parent
    texts = [path.read_text() for name in BUILT_IN for path in (demo / name).glob("train.[ct]*")]
    parts = ['extends = "demo"', "[defaults]", 'model = "model"']
    for path in sorted(EXAMPLES.glob("mtlplug-*/suite/suite.toml")):
        _, _, tasks = path.read_text().partition("[tasks.")
        for split in ("train", "valid"):
            tasks = tasks.replace(f'{split} = "', f'{split} = "{path.parent}/')
        parts.append(f"[tasks.{tasks}")
        texts += [file.read_text() for file in path.parent.glob("train.*")]
    (folder / "all.toml").write_text("\n".join(parts))
    vocabulary = save_tokenizer(folder / "model", "\n".join(texts).splitlines())
    save_encoder(folder / "model", vocabulary, seed=0, sizes=SIZES)
    return folder / "all.toml"


def run(*arguments: str) -> str:
    """A command in this process; what it said."""
    result = CliRunner().invoke(main, [str(each) for each in arguments])
    assert result.exit_code == 0, result.output[-3000:]
    return result.output


def test_each_format_learns_in_one_mixed_batch(suite: Path) -> None:
    """Batches hold features of all ten formats; every task's validation loss falls."""
    output = suite.parent / "run"
    arguments = f"run --groups {GROUPS} --max-rows-per-task 160 --batch-size 64 --max-epochs 8"
    arguments += " --patience 8 --learning-rate 3e-3"
    run(*arguments.split(), "--suite", suite, "--output", output)
    report = json.loads((output / "report.json").read_text())
    codes = {task["format"] for task in report["tasks"].values()}
    assert codes == {"SL", "QA", "C", "MC", "REG", "DEP", "SPAN", "ML", "CRF", "MLM"}
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    untrained = next(line["scores"] for line in lines if line["event"] == "untrained")
    scores = [line["scores"] for line in lines if line["event"] == "validation"]
    for task in report["tasks"]:
        lowest = min(each[task]["loss"] for each in scores)
        assert lowest < 0.98 * untrained[task]["loss"], task
        assert max(each[task]["headline"] for each in scores) > untrained[task]["headline"], task


def test_the_gradient_of_all_formats_is_exact(suite: Path) -> None:
    """Under each ZeRO stage two ranks give the parameters of one padded process.

    Stands for `test_two_ranks_give_the_gradient_of_one` of each format, which starts processes
    of its own.
    """
    said = run("doctor", "--suite", suite, "--zero", "0,1,2,3", "--groups", GROUPS, "--json")
    checks = {check["name"]: check for check in json.loads(said)["checks"]}
    for stage in range(4):
        assert checks[f"ZeRO-{stage}, 2 ranks"]["status"] == "ok"
    assert checks["gradient, control"]["status"] == "ok"
