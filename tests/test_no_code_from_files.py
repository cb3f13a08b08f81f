"""No file makes mtlplug run code, write elsewhere, or reach out: models, data, suites, runs."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from mtlplug.data import hub
from mtlplug.data.fetching import download_name
from mtlplug.errors import MtlplugError
from mtlplug.model.loading import check_folder
from mtlplug.study.cell import model_of
from mtlplug.study.ledger import Ledger
from mtlplug.study.plan import Cell
from mtlplug.study.settings import FINETUNE
from tests import small_suite
from tests.audit import Told, audited
from tests.small_suite import command

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks" / "reliability"))

import bombs  # noqa: E402
import payloads  # noqa: E402
import planting  # noqa: E402

SOURCES = sorted([*(ROOT / "mtlplug").rglob("*.py"), *(ROOT / "plugins").glob("*.py")])

TABLES = """
[tasks.columns]
format = "C"
train = "kinds/train.parquet"
valid = "kinds/folder"
columns = { text = "sentence", label = "kind" }
"""


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> payloads.Ground:
    """A suite with an encoder, features, and a run that was killed after a checkpoint."""
    made = payloads.Ground(tmp_path_factory.mktemp("ground"))
    made.prepare(study=False)
    return made


def here(arguments: Sequence[str]) -> tuple[int, str]:
    """A command in this process, which is faster."""
    hub._load.cache_clear()
    result = command(*arguments)
    unforeseen = result.exception and not isinstance(result.exception, SystemExit)
    return result.exit_code, result.output + (
        f"Traceback (most recent call last): {result.exception!r}" if unforeseen else ""
    )


@pytest.mark.parametrize("name", bombs.PAYLOADS)
def test_payloads_run_when_opened_carelessly(tmp_path: Path, name: str) -> None:
    """The code in each of them works: that it does not run below is not its own fault."""
    marker, path, payload = tmp_path / "marker", tmp_path / "planted", bombs.PAYLOADS[name]
    path.write_bytes(payload.make(marker))
    assert not marker.exists()
    payload.detonate(path)
    assert marker.exists()


def short(case: planting.Case) -> bool:
    """Every place, but each wrapping only where it is most at home."""
    tensors = case.file.endswith((".safetensors", ".bin", "index.json"))
    return case.kind not in ("run", "model") or case.payload in (
        ("torch",) if tensors else ("pickle", "python")
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["run", "model", "dataset", "cache", "suite"])
def test_nothing_planted_runs(ground: payloads.Ground, kind: str) -> None:
    """Whatever the file, it is reached, nothing in it runs, and what is wrong is one sentence."""
    cases = [case for case in planting.all_cases(ground.sound) if case.kind == kind and short(case)]
    assert len(cases) >= 4
    for case in cases:
        outcome = payloads.try_case(ground, case, here)
        assert outcome.reached, outcome
        assert not outcome.executed, outcome
        if "*" not in case.file:  # where no checksum was forged
            assert not outcome.traceback, outcome
            assert outcome.exit_code in (0, 2), outcome


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("pytorch_model.bin", "its weights hold more than numbers, which may be code"),
        ("code of an unknown type in config.json", "it comes with code of its own"),
        ("attention in config.json", "config.json asks for attention code from the hub"),
    ],
)
def test_a_model_with_code_is_refused_plainly(
    ground: payloads.Ground, file: str, says: str
) -> None:
    """The sentence does not repeat the libraries' advice on how to run it all the same."""
    case = next(each for each in planting.model_cases() if each.file == file)
    outcome = payloads.try_case(ground, case, here)
    assert (outcome.exit_code, outcome.executed) == (2, False)
    assert says in outcome.said
    assert "trust" not in outcome.said


def test_the_search_for_markers_finds_one(ground: payloads.Ground) -> None:
    """A command that unpickles what was planted is noticed; one that opens nothing, too."""
    (case,) = [each for each in planting.suite_cases() if each.payload == "python"]

    def careless(arguments: Sequence[str]) -> tuple[int, str]:
        exec(Path(arguments[arguments.index("--suite") + 1]).read_text())
        return 0, ""

    assert payloads.try_case(ground, case, careless).executed
    lazy = payloads.try_case(ground, case, lambda _: (0, ""))
    assert not lazy.executed
    assert not lazy.reached


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite whose rows come from text, from parquet, and through `datasets`."""
    suite = small_suite.write(tmp_path_factory.mktemp("tables") / "suite")
    suite.write_text(suite.read_text(encoding="utf-8") + TABLES, encoding="utf-8")
    rows = {"sentence": ["w1 w2", "w3"] * 8, "kind": ["odd", "even"] * 8}
    parquet.write_table(pa.table(rows), suite.parent / "kinds" / "train.parquet")
    (suite.parent / "kinds" / "folder").mkdir()
    lines = [f"{text},{kind}" for text, kind in zip(*rows.values(), strict=True)]
    text = "\n".join(["sentence,kind", *lines])
    (suite.parent / "kinds" / "folder" / "train.csv").write_text(text, encoding="utf-8")
    return suite


def arguments(suite: Path, output: Path) -> list[str]:
    """A short run on everything, with features of its own."""
    cache = output.with_name(f"{output.name}-cache")
    more = f"--suite {suite} --output {output} --cache {cache} --max-epochs 1"
    return ["-m", "mtlplug", "run", "--groups", "SL+QA+C", *more.split()]


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """Where strace writes connections; None where it is not installed, or may not be used."""
    strace = shutil.which("strace")
    trial = [str(strace), "-qq", "-e", "trace=connect", "true"]
    if strace is None or subprocess.run(trial, capture_output=True, check=False).returncode:
        return None
    return tmp_path_factory.mktemp("strace") / "log"


@pytest.fixture(scope="module")
def told(tables: Path, calls: Path | None, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """Reading data of all kinds, training, evaluation and the export, offline."""
    folder = tmp_path_factory.mktemp("told")
    under = ["strace", "-f", "-qq", "-e", "trace=connect,sendto", "-o", str(calls)]
    told = audited(
        folder / "hook", *arguments(tables, folder / "run"), under=under if calls else ()
    )
    assert told.exit_codes == [0], told.output
    assert (folder / "run" / "encoder" / "model.safetensors").exists()
    return told


def test_training_finds_no_class_and_no_address(told: Told) -> None:
    """As far as Python sees it."""
    assert told.of("start") != []
    assert told.of("pickle.find_class") == []
    assert told.of("exec") == []
    assert told.far == []


def test_resuming_finds_no_class_and_no_address(ground: payloads.Ground, tmp_path: Path) -> None:
    """A killed run goes on from its checkpoint and is exported."""
    words = payloads.words(planting.command_of(planting.RUN), ground.fresh())
    told = audited(tmp_path / "hook", "-m", "mtlplug", *words)
    assert told.exit_codes == [0], told.output
    assert "resum" in told.output
    assert (told.of("pickle.find_class"), told.of("exec"), told.far) == ([], [], [])


@pytest.mark.slow
def test_ranks_find_no_class_and_no_far_address(tables: Path, tmp_path: Path) -> None:
    """What two processes tell each other is no pickle with classes; they talk on this host."""
    told = audited(tmp_path / "hook", *arguments(tables, tmp_path / "run"), ranks=2)
    assert told.exit_codes == [0, 0], told.output
    assert len(told.of("start")) >= 2
    assert (told.of("pickle.find_class"), told.of("exec"), told.far) == ([], [], [])


def test_the_hook_notices(tmp_path: Path) -> None:
    """A class in a pickle, a script in the folder and a far address are all told."""
    (tmp_path / "planted.pkl").write_bytes(bombs.pickled(tmp_path / "marker"))
    (tmp_path / "planted.py").write_bytes(bombs.script(tmp_path / "marker"))
    code = (
        "import pickle, runpy, socket, sys\n"
        f"pickle.load(open({str(tmp_path / 'planted.pkl')!r}, 'rb'))\n"
        f"runpy.run_path({str(tmp_path / 'planted.py')!r})\n"
        "near = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "near.connect(('127.0.0.1', 9))\n"
        "try:\n    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('192.0.2.1', 9))\n"
        "except OSError:\n    pass\n"
    )
    told = audited(tmp_path / "hook", "-c", code)
    assert told.exit_codes == [0], told.output
    assert told.of("pickle.find_class") == ["__builtin__.exec"]
    assert told.of("exec") == [str(tmp_path / "planted.py")]
    assert told.of("socket.") == ["127.0.0.1", "192.0.2.1"]
    assert told.far == ["192.0.2.1"]


@pytest.mark.slow
@pytest.mark.usefixtures("told")
def test_no_library_reaches_out_below_python(calls: Path | None) -> None:
    """What gloo and the tokenizers do in C++ and Rust: the kernel sees connections to here only."""
    if calls is None:
        pytest.skip("strace is not installed, or may not be used here")
    made = [line for line in calls.read_text(errors="replace").splitlines() if "AF_INET" in line]
    assert [line for line in made if "127.0.0.1" not in line and '"::1"' not in line] == []


FORBIDDEN = ("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve",
             "yaml", "runpy", "imp", "tarfile", "zipfile")  # fmt: skip
PATHS_TO_CODE = ("eval", "exec", "compile", "__import__", "system", "popen", "unpack_archive")
THEIRS = ("AutoConfig", "AutoModel", "AutoTokenizer", "datasets")


def faults(source: str) -> Iterator[str]:
    """What a module does that could run code out of a file."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names if each.name in FORBIDDEN)
        elif isinstance(node, ast.ImportFrom) and node.module in FORBIDDEN:
            yield from (each.name for each in node.names if not each.name.endswith("Error"))
        elif isinstance(node, ast.Call):
            yield from _of_call(ast.unparse(node.func), node)


def _of_call(name: str, call: ast.Call) -> Iterator[str]:
    given = {each.arg: ast.unparse(each.value) for each in call.keywords}
    owner, _, last = name.rpartition(".")
    if name in PATHS_TO_CODE or (owner == "os" and last in PATHS_TO_CODE):
        yield name
    loads = owner in THEIRS and last in ("from_pretrained", "from_config", "load_dataset")
    if loads and given.get("trust_remote_code") != "False":
        yield f"{name} without trust_remote_code=False"
    if name == "torch.load" and given.get("weights_only") != "True":
        yield f"{name} without weights_only=True"
    if name == "AutoModel.from_pretrained" and given.get("weights_only") != "True":
        yield f"{name} without weights_only=True"
    if last in ("load", "memmap") and owner in ("np", "numpy") and "allow_pickle" in given:
        yield f"{name} with allow_pickle"
    if last.endswith(("gather_object", "broadcast_object_list", "scatter_object_list")):
        yield f"{name}, which pickles"
    if given.get("shell") == "True":
        yield f"{name} in a shell"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_no_module_has_a_door_for_code(path: Path) -> None:
    """No pickle, no YAML, no eval, no archive is unpacked; models come without their code."""
    assert list(faults(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "eval(text)",
        "os.system(text)",
        "AutoModel.from_pretrained(name, weights_only=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=False)",
        "AutoTokenizer.from_pretrained(name, trust_remote_code=True)",
        "datasets.load_dataset(name)",
        "torch.load(path)",
        "np.load(path, allow_pickle=True)",
        "dist.broadcast_object_list(box)",
        "subprocess.run(text, shell=True)",
    ],
)
def test_a_door_is_noticed(source: str) -> None:
    """The check can fail; errors of pickle may be named."""
    assert len(list(faults(source))) == 1
    assert list(faults("from pickle import UnpicklingError")) == []


NAMES = ["../x", "a/b", "/abs", "..", ".", "", "a..b", "a\\\\b", "~", "-x", "a b",
         "a\\u0000b", "a\\nb", "a\\n", "a\\u202eb", "a\\u2215b"]  # fmt: skip
"""As TOML writes them."""


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("what", ["task", "split", "group", "suite"])
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, what: str, name: str) -> None:
    """Names become names of files: they are letters, digits, '_', '-' and single dots."""
    suite = small_suite.write(tmp_path / "a" / "suite")
    changes = {
        "task": ("[tasks.kinds]", f'[tasks."{name}"]'),
        "split": ('train = "kinds', f'splits = {{ "{name}" = "x" }}\ntrain = "kinds'),
        "group": ('words = ["tags", "kinds"]', f'"{name}" = ["tags"]'),
        "suite": ('title = "three', f'name = "{name}"\ntitle = "three'),
    }
    text = suite.read_text(encoding="utf-8").replace('"kinds"]', '"spans"]')
    old, new = changes[what]
    old = old.replace('"kinds"]', '"spans"]')
    assert old in text
    suite.write_text(text.replace(old, new), encoding="utf-8")
    before = sorted(tmp_path.rglob("*"))
    given = ["--suite", suite, "--output", tmp_path / "a" / "b" / "run", "--cache", tmp_path / "c"]
    result = command("run", "--groups", "SL+QA+C", *given)
    assert result.exit_code == 2
    assert "no usable name" in result.stderr
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://a.org/b/train.tsv.gz", "train.tsv.gz"),
        ("https://a.org/..%2f..%2fevil", "evil"),
        ("https://a.org/..", ".."),
        ("https://a.org/a%00b%0ac", "a_b_c"),
        ("https://a.org/..%5c..%5cevil", ".._.._evil"),
        (f"https://a.org/{'x' * 300}.jsonl.gz", f"{'x' * 91}.jsonl.gz"),
    ],
)
def test_names_of_downloads_stay_in_their_folder(url: str, name: str) -> None:
    """Whatever a url says, its file has one plain name, behind a hash."""
    found = download_name(url)
    assert found[12:] == f"-{name}"
    assert Path(found).name == found


@pytest.mark.parametrize("name", ["../weights.safetensors", "/etc/passwd", "a/b.bin", "..", "\0"])
def test_lists_of_weights_name_files_of_their_folder(tmp_path: Path, name: str) -> None:
    """A list that leads elsewhere is refused before anything is loaded; a plain one is not."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model-1.safetensors").touch()
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"w": "model-1.safetensors"}}))
    check_folder(str(tmp_path))
    index.write_text(json.dumps({"weight_map": {"w": name}}))
    with pytest.raises(MtlplugError, match="not in its folder"):
        check_folder(str(tmp_path))


def test_a_result_does_not_say_where_an_encoder_is(tmp_path: Path) -> None:
    """A cell's result is a file like any other: what it calls the encoder's folder is ignored."""
    ledger = Ledger(tmp_path)
    ledger.cells.mkdir()
    ledger.record("made", {"state": "done", "folder": "../../elsewhere"})
    cell = Cell("mine", FINETUNE, "SL", "t", 1e-3, 1, {}, "made", 0.0, 1)
    assert model_of(ledger, cell) == str(tmp_path / "encoders" / "SL-made" / "encoder")


def test_run_json_names_the_plugins(ground: payloads.Ground) -> None:
    """Plugins are code: which of what version had a part in a run is in its file."""
    path = ground.sound / planting.RUN / "run.json"
    plugins = json.loads(path.read_text(encoding="utf-8"))["plugins"]
    assert {each["name"] for each in plugins} >= {"sl", "qa", "c"}
    assert all(each["distribution"] and each["version"] for each in plugins)
    assert {code for each in plugins for code in each["formats"]} >= {"SL", "QA", "C"}
