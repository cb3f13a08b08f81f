"""A few tiny tasks of every format, a tiny encoder, and stores made of them."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from mtlplug.data.build import Builder, TaskData
from mtlplug.formats import Row, Task, TaskFormat
from mtlplug.model.encoder import Encoder
from mtlplug.plugin_manager import load_plugins

WORDS = [f"w{number}" for number in range(60)]


def tokenizer() -> PreTrainedTokenizerFast:
    """One token per word."""
    vocabulary = {
        word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])
    }
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )  # fmt: skip


def encoder(
    seed: int = 0, road: str = "auto", dropout: float = 0.0, vocabulary: int = 64
) -> Encoder:
    """A BERT of two layers; the tokenizer knows the first 64 of its vocabulary."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=vocabulary, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=64, hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )  # fmt: skip
    return Encoder(BertModel(config, add_pooling_layer=False), road)


class Rows:
    """A source of rows that are made up."""

    place = "made up"

    def __init__(self, name: str, make: str, number: int, shortest: int = 2) -> None:
        self.name, self.make, self.number, self.shortest = name, make, number, shortest

    def fingerprint(self) -> str:
        """What the rows depend on."""
        return f"{self.name} {self.make} {self.number} {self.shortest}"

    def rows(self) -> list[Row]:
        """The rows; the same at every call."""
        draw = random.Random(self.fingerprint())
        return [self._row(draw, number) for number in range(self.number)]

    def _row(self, draw: random.Random, number: int) -> Row:
        words = [draw.choice(WORDS) for _ in range(draw.randint(self.shortest, self.shortest + 18))]
        if self.make == "SL":
            tags = [draw.choice(["O", "O", "B-X", "B-Y"]) for _ in words]
            return Row({"tokens": words, "tags": tags}, where=f"row {number}")
        if self.make == "C":
            label = str(draw.randint(0, 2))
            return Row({"text": " ".join(words), "label": label}, where=f"row {number}")
        answer = draw.choice(words)
        context = " ".join(words)
        answers = {"text": [answer], "answer_start": [context.index(answer)]}
        values = {"id": str(number), "question": "w1 w2", "context": context, "answers": answers}
        return Row(values, where=f"row {number}")


def task_data(
    folder: Path, makes: str = "SL C C QA SL", number: int = 40, shortest: int = 2
) -> list[TaskData]:
    """Tasks of these formats, stored below `folder`; several have heads of equal shape."""
    formats = load_plugins().formats
    builder = Builder(tokenizer(), folder, max_length=48, limit=64)
    data = []
    for index, make in enumerate(makes.split()):
        task_format: TaskFormat = formats[make]
        name = f"{make.lower()}{index}"
        task = Task(
            name=name,
            format=make,
            sources={
                "train": Rows(f"{name}-train", make, number, shortest),  # type: ignore[dict-item]
                "valid": Rows(f"{name}-valid", make, 12, shortest),  # type: ignore[dict-item]
            },
            options=dict(task_format.options)
            | ({"max_length": 32, "stride": 8, "max_question": 8} if make == "QA" else {}),
        )
        data.append(builder.build(task, task_format, ["train", "valid"]))
    return data
