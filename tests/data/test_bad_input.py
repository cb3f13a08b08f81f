"""Bad input the whole way, by command: repaired and counted, or one sentence and exit code 2."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import pyarrow
import pytest
from click.testing import Result
from pyarrow import parquet
from tokenizers import normalizers

from mtlplug.data.store import FeatureStore
from mtlplug.pages.wording import counted as in_words
from tests import small_suite, toy
from tests.small_suite import command

SL = 'format = "SL"\ntrain = "train.conll"\nvalid = "valid.conll"'
JSONL = 'format = "C"\ntrain = "train.jsonl"\nvalid = "valid.jsonl"'
TSV = 'format = "C"\ntrain = "train.tsv"\nvalid = "valid.tsv"'
WINDOWS = "options = { max_length = 40, stride = 8, max_question = 8 }"
QA = f'format = "QA"\ntrain = "train.json"\nvalid = "valid.json"\n{WINDOWS}'
MRQA = f'format = "QA"\nreader = "mrqa"\ntrain = "train.jsonl"\nvalid = "valid.jsonl"\n{WINDOWS}'
PARQUET = 'format = "C"\ntrain = "train.parquet"\nvalid = "valid.parquet"'
CONTEXT = "the cat sat on the mat"
LONG = "x" * 10_000


def conll(*lines: str) -> bytes:
    """A CoNLL file: blanks for tabs, an empty text ends a sentence."""
    return "\n".join(line.replace(" ", "\t") for line in lines).encode()


def jsonl(*rows: Any) -> bytes:
    """JSON lines."""
    return "\n".join(json.dumps(row) for row in rows).encode()


def squad(*answers: Any, context: str = CONTEXT, question: str = "who ?", **more: Any) -> bytes:
    """A SQuAD file with one question, and these answers (text, start)."""
    given = [{"text": text, "answer_start": start} for text, start in answers]
    asked = {"id": "q", "question": question, "answers": given, **more}
    return json.dumps({"data": [{"paragraphs": [{"context": context, "qas": [asked]}]}]}).encode()


def mrqa(text: str, *span: int) -> bytes:
    """An MRQA file with one question, and an answer of this text at this span."""
    asked = {"qid": "q", "question": "who ?"}
    asked["detected_answers"] = [{"text": text, "char_spans": [list(span)]}]  # type: ignore[assignment]
    return jsonl({"header": {}}, {"context": CONTEXT, "qas": [asked]})


SOUND: Mapping[str, bytes] = {
    "conll": conll("Ann B-PER", "Lee I-PER", "ran O", "", "in O", "Rome B-LOC", ""),
    "jsonl": jsonl({"text": "good", "label": 1}, {"text": "bad", "label": 0}),
    "tsv": b"text\tlabel\ngood\t1\nbad\t0\n",
    "json": squad(("cat", 4)),
}


class Bad(NamedTuple):
    """One bad input.

    Attributes:
        name: of the case.
        task: its table in the suite.
        file: that is bad.
        content: of the file.
        says: fragments of the sentence that refuses it; empty where it is accepted.
        counts: what is counted in both splits where it is accepted.
    """

    name: str
    task: str
    file: str
    content: bytes
    says: tuple[str, ...] = ()
    counts: Mapping[str, int] = {}


REFUSED = [
    # Columns and line ends.
    Bad("ragged CoNLL: the tag's column is missing", SL, "valid.conll",
        conll("Ann NNP B-PER", "ran VB O", "Bo NNP"),
        ("valid.conll, line 3 has 2 columns where the first line has 3", "mend the line")),
    Bad("ragged CoNLL: a blank in a token", SL, "train.conll", b"Ann B-PER\nNew York B-LOC\n",
        ("train.conll, line 2 has 3 columns", "'New York B-LOC'")),
    Bad("CoNLL: a blank for a tab", SL, "train.conll", b"Ann\tB-PER\n5 storm\n",
        ("train.conll, line 2 lacks one of the columns",)),
    Bad("CoNLL of an old Mac", SL, "train.conll", b"Ann O\rran O\r\rBo O\r",
        ("train.conll, line 1 holds a carriage return", "line feed")),
    Bad("TSV of an old Mac", TSV + "\nheader = false\ncolumns = { text = 0, label = 1 }",
        "train.tsv", b"good\t1\rbad\t0\r", ("train.tsv, line 1 holds a carriage return",)),
    # Bytes and encodings.
    Bad("NUL in CoNLL", SL, "train.conll", b"Ann O\nr\0n O\n", ("train.conll, line 2", "NUL")),
    Bad("NUL in JSON", QA, "train.json", b'{"data": [\n\0]}', ("train.json, line 2", "NUL")),
    Bad("latin-1 CoNLL", SL, "valid.conll", "Ann O\nné O\n".encode("latin-1"),
        ("valid.conll, line 2 is not utf-8", 'encoding = "cp1252"')),
    Bad("latin-1 in a damaged gzip file", SL.replace("train.conll", "train.conll.gz"),
        "train.conll.gz", gzip.compress("né O\n".encode("latin-1") * 9000)[:-30],
        ("train.conll.gz, line 1 is not utf-8",)),
    Bad("codec of bytes", SL + '\nencoding = "hex"', "train.conll", SOUND["conll"],
        ("unknown encoding 'hex'", "utf-8")),
    # JSON.
    Bad("JSON too deep", JSONL, "train.jsonl", b"[" * 99_999, ("train.jsonl, line 1", "deep")),
    Bad("JSON number too long", JSONL, "train.jsonl", b'{"label": ' + b"9" * 5000 + b"}",
        ("train.jsonl, line 1 holds a number that is too long",)),
    Bad("JSON key twice", JSONL, "valid.jsonl", b'{"text": "a", "label": 1, "label": 0}',
        ("valid.jsonl, line 1: an object has the key 'label' twice", "remove one")),
    Bad("half a surrogate pair", JSONL, "train.jsonl", rb'{"text": "\uD83D", "label": 1}',
        ("train.jsonl, line 1 holds half of a surrogate pair",)),
    Bad("TOML too deep", 'format = "C"\ninfo = { a = ' + "[" * 9000, "train.tsv", SOUND["tsv"],
        ("bad.toml is bad TOML", "deep")),
    Bad("TOML number too long", f'format = "C"\nweight = {"9" * 5000}', "train.tsv", SOUND["tsv"],
        ("bad.toml is bad TOML",)),
    # Tags and labels.
    Bad("outside is a nought", SL, "train.conll",
        conll("Ann B-PER", "Lee I-PER", "ran 0", "in 0", "a 0", "big 0", "car 0"),
        ("train.conll, line 1: task 'bad' has tags such as 'B-PER'", "words outside as O")),
    Bad("tags in small letters", SL, "train.conll", conll("Ann b-per", "Lee i-per", "ran o"),
        ("train.conll, line 1: task 'bad' has tags such as 'b-per'", "in capitals")),
    Bad("numbers for tags", 'format = "SL"\ntrain = "train.jsonl"', "train.jsonl",
        jsonl({"tokens": ["a"], "tags": [1]}), ("train.jsonl, line 1: column 'tags' holds 1",)),
    Bad("labels but -1 and None", JSONL, "train.jsonl",
        jsonl({"text": "a", "label": -1}, {"text": "b", "label": None}),
        ("task 'bad' has no training row with a label", "in the suite")),
    # Questions.
    Bad("impossible and answered", QA, "train.json", squad(("cat", 4), is_impossible=True),
        ("train.json, entry 1: 'is_impossible' is true, but there are 1 answers", "mend")),
    Bad("possible and not answered", QA, "train.json", squad(is_impossible=False),
        ("train.json, entry 1: 'is_impossible' is false, but there are no answers",)),
    Bad("impossible as text", QA, "valid.json", squad(("cat", 4), is_impossible="false"),
        ("valid.json, entry 1: 'is_impossible' is 'false'", "bool")),
    Bad("an article of text", QA, "train.json", b'{"data": ["title"]}',
        ("train.json: 'paragraphs' is missing",)),
    Bad("a text for a list of answers", QA.replace("json", "jsonl"), "train.jsonl",
        jsonl({"question": "?", "context": "a", "answers": {"text": "a", "answer_start": [0]}}),
        ("train.jsonl, line 1: column 'answers' holds",)),
    Bad("no candidate", QA.replace("stride = 8", "stride = 8, n_best = 0"), "train.json",
        SOUND["json"], ("task 'bad': option n_best is 0", "1 or more")),
    Bad("negative stride", QA.replace("stride = 8", "stride = -8"), "train.json", SOUND["json"],
        ("task 'bad': option stride is -8", "0 or more")),
    Bad("no number", QA.replace("stride = 8", "no_answer_threshold = nan"), "train.json",
        SOUND["json"], ("bad.toml: task 'bad', options of format QA: no_answer_threshold is nan",)),
    # Paths.
    Bad("no path", 'format = "SL"\ntrain = ""', "train.conll", b"",
        ("bad.toml: task 'bad', split 'train'", "path '' names no file")),
    Bad("NUL in a path", 'format = "SL"\ntrain = "a\\u0000b"', "train.conll", b"",
        (r"path 'a\x00b' names no file",)),
    Bad("long path", f'format = "SL"\ntrain = "{"x" * 300}"', "train.conll", b"", ("too long",)),
    Bad("home of nobody", 'format = "SL"\ntrain = "~nobody-here/x"', "train.conll", b"",
        ("the home folder in path '~nobody-here/x' is unknown",)),
    Bad("a device", 'format = "SL"\nreader = "conll"\ntrain = "/dev/zero"', "train.conll", b"",
        ("/dev/zero is a pipe or device",)),
    Bad("all files there are", 'format = "SL"\ntrain = "/proc"', "train.conll", b"", ("/proc",)),
    Bad("no url", 'format = "SL"\ntrain = { url = "http://[" }', "train.conll", b"",
        ("bad.toml: task 'bad', split 'train': url 'http://[' is none",)),
]  # fmt: skip

COUNTED = [
    Bad("short TSV line: the label's column is missing", TSV, "train.tsv",
        b"label\ttext\n1\tgood\n0\tbad\nlost\n", counts={"rows without label": 1}),
    Bad("byte order mark", SL, "train.conll", b"\xef\xbb\xbf" + SOUND["conll"]),
    Bad("byte order mark in JSON", QA, "train.json", b"\xef\xbb\xbf" + SOUND["json"]),
    Bad("line ends of Windows", JSONL, "train.jsonl", SOUND["jsonl"].replace(b"\n", b"\r\n")),
    Bad("latin-1 where it is set", SL + '\nencoding = "latin-1"', "train.conll",
        "né O\nBo B-PER\nRome B-LOC\n".encode("latin-1")),
    Bad("NUL in a JSON string", JSONL, "valid.jsonl", jsonl({"text": "a\0b", "label": 1})),
    Bad("words that vanish", SL, "valid.conll",
        conll("Ann B-PER", "\u200b\u200d I-PER", "\ufeff O", "ran O"),
        counts={"words without tokens": 2}),
    Bad("texts that vanish", JSONL, "valid.jsonl",
        jsonl({"text": "\u200b", "label": 1}, {"text": "", "label": 0}),
        counts={"texts without tokens": 2}),
    Bad("context and question that vanish", QA, "train.json",
        squad(context="\u200b", question=" ", is_impossible=True),
        counts={"contexts without tokens": 1, "questions without tokens": 1}),
    Bad("words of 10,000 characters", SL, "valid.conll", conll(f"{LONG} B-PER", "Rome B-LOC")),
    Bad("text of 10,000 words", JSONL, "valid.jsonl", jsonl({"text": "a " * 10_000, "label": 1}),
        counts={"texts cut": 1}),
    Bad("second text None", JSONL, "valid.jsonl",
        jsonl({"text": "a", "text_pair": None, "label": 1}),
        counts={"rows without second text": 1}),
    Bad("labels -1, None and float", JSONL, "valid.jsonl",
        jsonl(*({"text": "a", "label": label} for label in (-1, None, 1.0, 0.0))),
        counts={"rows without label": 2}),
    Bad("labels that training never had", JSONL, "valid.jsonl",
        jsonl({"text": "a", "label": "2"}, {"text": "a", "label": 1.5}),
        counts={"labels not in training": 2}),
    Bad("tags of two schemes", SL, "valid.conll", conll("Ann I-PER", "Lee L-PER", "Bo PER"),
        counts={"tags repaired": 2}),
    Bad("answers without text", QA, "train.json", squad((" ", 2), ("cat", 4)),
        counts={"answers without text": 1}),
    Bad("unlike training no answer", QA, "valid.json", squad(),
        counts={"questions without answer, unlike training": 1}),
    Bad("MRQA span elsewhere", MRQA, "valid.jsonl", mrqa("cat", 8, 10),
        counts={"answers moved": 1}),
    Bad("MRQA text with an article", MRQA, "valid.jsonl", mrqa("The Cat", 4, 6)),
    Bad("answers from right to left", QA, "valid.json",
        squad(("عام", 8), context="كتاب في عام ١٩")),
]  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder whose tokenizer drops controls, as BERT's does."""
    tokenizer = toy.tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.BertNormalizer()
    folder = tmp_path_factory.mktemp("model")
    toy.encoder().save(folder, tokenizer)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Sound files of every kind."""
    for split in ("train", "valid"):
        for ending, content in SOUND.items():
            (tmp_path / f"{split}.{ending}").write_bytes(content)
    return tmp_path


def read(folder: Path, model: Path, task: str, *options: str | Path) -> Result:
    """`mtlplug tasks` on a suite of this one task, which reads and stores all of it."""
    (folder / "bad.toml").write_text(f"[tasks.bad]\n{task}\n", encoding="utf-8")
    given = ["--suite", folder / "bad.toml", "--cache", folder / "cache", "--model", model]
    return command("tasks", *given, *options)


def refusal(result: Result) -> str:
    """The one sentence of a refusal."""
    assert result.exit_code == 2, result.output + repr(result.exception)
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert line.isprintable()
    return line


def stores(folder: Path) -> Iterator[FeatureStore]:
    """What was stored."""
    return (FeatureStore(path.parent) for path in folder.glob("cache/features/*/meta.json"))


def counted(folder: Path) -> Counter[str]:
    """What was counted in all splits."""
    return sum((Counter(store.meta["counts"]) for store in stores(folder)), Counter[str]())


@pytest.mark.parametrize("bad", REFUSED, ids=lambda bad: bad.name)
def test_refused(folder: Path, model: Path, bad: Bad) -> None:
    """One printable sentence with the place and the remedy, exit code 2, no store."""
    (folder / bad.file).write_bytes(bad.content)
    line = refusal(read(folder, model, bad.task))
    assert all(fragment in line for fragment in bad.says), line
    assert not list(folder.rglob("*.tmp"))


@pytest.mark.parametrize("bad", COUNTED, ids=lambda bad: bad.name)
def test_repaired_and_counted(folder: Path, model: Path, bad: Bad) -> None:
    """What is accepted is stored with the counts of what was done, and no others."""
    if bad.task == MRQA:
        (folder / "train.jsonl").write_bytes(mrqa("cat", 4, 6))
    (folder / bad.file).write_bytes(bad.content)
    result = read(folder, model, bad.task)
    assert result.exit_code == 0, result.output + repr(result.exception)
    assert counted(folder) == bad.counts
    flat = " ".join(result.output.replace("│", " ").split())
    assert all(word.rstrip(",") in flat for word in in_words(bad.counts).split())


def test_the_sound_files_are_read(folder: Path, model: Path) -> None:
    """Nothing is wrong or counted before something is made wrong."""
    for task in (SL, JSONL, TSV, QA):
        assert read(folder, model, task).exit_code == 0
    assert len(list(stores(folder))) == 8
    assert counted(folder) == {}


def targets(folder: Path, split: str) -> list[list[int]]:
    """The targets of a split."""
    (path,) = folder.glob(f"cache/features/bad-{split}-*/meta.json")
    store = FeatureStore(path.parent)
    return [store.target(number).tolist() for number in range(len(store))]


def test_labels_of_damaged_rows_stay_with_their_texts(folder: Path, model: Path) -> None:
    """A vanished word, a very long one and a moved answer shift nobody's target."""
    (folder / "valid.conll").write_bytes(
        conll("\u200b B-PER", f"{LONG} I-PER", "ran O", "Rome B-LOC")
    )
    assert read(folder, model, SL).exit_code == 0
    names = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
    (valid,) = targets(folder, "valid")
    assert [names[target] for target in valid] == ["I-PER", "O", "B-LOC"]
    (folder / "valid.jsonl").write_bytes(mrqa("cat", 8, 10))
    (folder / "train.jsonl").write_bytes(mrqa("cat", 4, 6))
    (folder / "cache").rename(folder / "old")
    assert read(folder, model, MRQA).exit_code == 0
    assert targets(folder, "valid") == targets(folder, "train") == [[2, 2]]


# ---- parquet ----


def classes(path: Path, *names: str) -> None:
    """Texts that are named like their class, whose numbers are given in this order of names."""
    label = datasets.ClassLabel(names=list(names))
    features = datasets.Features({"text": datasets.Value("string"), "label": label})
    rows = {"text": ["good", "bad"], "label": [names.index("good"), names.index("bad")]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(path)


def test_class_numbers_in_another_order(folder: Path, model: Path) -> None:
    """Classes go by name: permuted numbers in the validation file do not permute labels."""
    classes(folder / "train.parquet", "bad", "good")
    classes(folder / "valid.parquet", "good", "other", "bad")
    assert read(folder, model, PARQUET).exit_code == 0
    assert targets(folder, "train") == targets(folder, "valid") == [[1], [0]]
    assert counted(folder) == {}


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"sentence": ["a"], "label": [1]}, "task 'bad' has no training row with a label"),
        ({"text": pyarrow.array([], "string"), "label": pyarrow.array([], "int64")}, "has no rows"),
        ({"text": [1.5], "label": ["x"]}, "train.parquet, row 1: column 'text' holds 1.5"),
        ({"text": ["a"], "label": [b"x"]}, "train.parquet, row 1: column 'label' holds b'x'"),
    ],
)
def test_parquet_with_other_columns(
    folder: Path, model: Path, columns: dict[str, Any], says: str
) -> None:
    """Other names, no row or other types are refused with the row and the column."""
    table = pyarrow.table(columns)
    parquet.write_table(table, folder / "train.parquet")
    parquet.write_table(table, folder / "valid.parquet")
    if "sentence" in columns:
        named = PARQUET + '\ncolumns = { text = "text", label = "label" }'
        assert "has no column 'text'; it has: sentence, label" in refusal(
            read(folder, model, named)
        )
    else:
        assert says in refusal(read(folder, model, PARQUET))


def test_parquet_whose_metadata_lies(folder: Path, model: Path) -> None:
    """Class labels whose names cannot be read are refused with the file."""
    label = {"names": 5, "_type": "ClassLabel"}
    told = json.dumps({"info": {"features": {"label": label}}}).encode()
    table = pyarrow.table({"text": ["x"], "label": [0]})
    parquet.write_table(
        table.replace_schema_metadata({b"huggingface": told}), folder / "train.parquet"
    )
    line = refusal(read(folder, model, PARQUET))
    assert "train.parquet names its class labels in metadata" in line


# ---- real files ----


def test_real_answers_at_wrong_offsets(real_data: Path, folder: Path, model: Path) -> None:
    """Speech recognition moved nearly all: every answer is found elsewhere or counted as lost."""
    path = real_data / "quirks" / "spoken_squad_WER44_offsets_wrong.json.gz"
    articles = json.loads(gzip.decompress(path.read_bytes()))["data"][:3]
    (folder / "valid.json").write_text(json.dumps({"data": articles}))
    assert read(folder, model, QA).exit_code == 0
    (store,) = (store for store in stores(folder) if "-valid-" in store.folder.name)
    counts, placed = store.meta["counts"], 0
    for number in range(len(store)):
        first, last = store.target(number)
        reference = store.reference(number)
        if first > 0:
            placed += 1
            low, high = reference["offsets"][2 * first - 2], reference["offsets"][2 * last - 1]
            found = reference["context"][low:high]
            assert any(answer in found for answer in reference["answers"])
    assert placed > 100
    assert counts["answers moved"] > 100
    assert counts["answers not in context"] > 0
    lost = {store.reference(n)["row"] for n in range(len(store)) if store.target(n)[0] < 0}
    assert len(lost) == counts["answers not in context"]


# ---- one row ----


@pytest.mark.filterwarnings("error::UserWarning:sklearn")
def test_datasets_of_one_row(tmp_path: Path) -> None:
    """A task of one row each for training and validation trains to the end."""
    suite = small_suite.write(tmp_path)
    for split in ("train", "valid"):
        (tmp_path / f"tags/{split}.conll").write_text("w1 O\nw2 B-LOW\n")
        (tmp_path / f"kinds/{split}.tsv").write_text("sentence\tkind\nw1 w2\todd\n")
        (tmp_path / f"spans/{split}.json").write_bytes(squad(("w2", 3), context="w1 w2"))
    given = ["--suite", suite, "--cache", tmp_path / "cache", "--output", tmp_path / "out"]
    result = command("run", "--groups", "SL+QA+C", "--max-epochs", "1", *given)
    assert result.exit_code == 0, result.output + repr(result.exception)
    assert (tmp_path / "out" / "report.json").exists()
