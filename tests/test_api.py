"""The road from a suite to scores in Python."""

from __future__ import annotations

import subprocess
import sys

import pytest

import mtlplug
from mtlplug.errors import MtlplugError
from tests import small_suite
from tests.small_suite import outside


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> mtlplug.Run:
    """A run of one epoch, trained from Python."""
    folder = tmp_path_factory.mktemp("api")
    suite = mtlplug.load_suite(small_suite.write(folder))
    return mtlplug.train(suite, groups="SL+C", output=folder / "run", max_epochs=1, set={"seed": 3})


def test_a_run_in_python(run: mtlplug.Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Trained, shown, evaluated and opened."""
    record = run.record
    assert record.complete
    assert record.run["options"]["seed"] == 3
    assert list(record.tasks) == ["tags", "kinds"]
    run.show()
    assert "validation scores by epoch" in capsys.readouterr().out
    scored = run.evaluate("kinds")
    assert scored.metrics["accuracy"] == record.report["tasks"]["kinds"]["score"]  # type: ignore[index]
    assert run.compare(run.folder, "kinds")[0].difference == 0
    assert list(run.load(["tags"]).heads) == ["tags"]
    assert list(mtlplug.load(run.folder).heads) == ["tags", "kinds"]


def test_training_again_shows_the_result(run: mtlplug.Run) -> None:
    """On the folder of a complete run nothing is trained."""
    before = (run.folder / "report.json").stat().st_mtime_ns
    suite = mtlplug.load_suite(run.folder.parent / "tiny.toml")
    again = mtlplug.train(suite, groups="SL+C", output=run.folder, max_epochs=1, set={"seed": 3})
    assert again == run
    assert (run.folder / "report.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("options", "said"),
    [({"lerning_rate": 1}, "did you mean 'learning_rate'"), ({"seed": "x"}, "of type int")],
)
def test_wrong_options(options: dict[str, object], said: str) -> None:
    """They are refused in a sentence, as on the command line."""
    with pytest.raises(MtlplugError, match=said):
        mtlplug.train("demo", "SL", **options)


def test_importing_is_quick() -> None:
    """`import mtlplug` loads nothing heavy; what needs torch comes when it is asked for."""
    script = (
        "import sys, mtlplug; print('torch' in sys.modules); mtlplug.Run; "
        "print(sorted(each for each in mtlplug.__all__ if not hasattr(mtlplug, each)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=outside()
    )
    assert done.stdout.splitlines() == ["False", "[]"]
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = mtlplug.nothing  # type: ignore[attr-defined]
