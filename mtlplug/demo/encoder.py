"""A small tokenizer and a small encoder for the demo, made on the spot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

VOCABULARY = 1200
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SIZES = {
    "hidden_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 512,
    "max_position_embeddings": 256,
}


def save_tokenizer(folder: Path, texts: Iterable[str], pieces: int | None = None) -> int:
    """Train a cased WordPiece tokenizer, which `AutoTokenizer` opens; returns its size.

    Args:
        folder: where it is saved.
        texts: to train on.
        pieces: how many pieces of words it knows beside letters; None for `VOCABULARY` in all.
    """
    from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
    from tokenizers.models import WordPiece
    from tokenizers.trainers import WordPieceTrainer
    from transformers import PreTrainedTokenizerFast

    texts = list(texts)
    learner = Tokenizer(WordPiece(unk_token="[UNK]"))
    learner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    # The trainer numbers the letters inside words in random order, and merges equally frequent
    # pairs by number; as "special" tokens they have fixed numbers.
    letters = [f"##{letter}" for letter in sorted(set("".join(texts)))]
    least = len(SPECIALS) + 2 * len(letters)
    trainer = WordPieceTrainer(
        vocab_size=VOCABULARY if pieces is None else least + pieces,
        special_tokens=[*SPECIALS, *letters],
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    backend = Tokenizer(WordPiece(learner.get_vocab(), unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, backend.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=SIZES["max_position_embeddings"],
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )
    tokenizer.save_pretrained(folder)
    return int(backend.get_vocab_size())


def save_encoder(
    folder: Path, vocabulary: int, seed: int, sizes: Mapping[str, int] = SIZES
) -> None:
    """Save a BERT of these sizes with random weights; torch's own seed is left alone."""
    import torch
    from transformers import BertConfig, BertModel
    from transformers.utils import logging

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BertModel(BertConfig(vocab_size=vocabulary, **sizes))
    bar = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model.save_pretrained(folder)
    finally:
        if bar:
            logging.enable_progress_bar()
