"""Scores of an exported stock model against those of our head, for one feature.

Shapes: L tokens, R rows read, K scores of a row, C sequences of a feature.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mtlplug.formats import Feature
from mtlplug.testing.failures import ContractError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def difference(stock: PreTrainedModel, feature: Feature, scores: Any) -> float:
    """The largest difference between a stock model's logits and a head's scores of a feature.

    Logits of tokens are taken at the reads; start and end logits side by side; of several
    sequences (multiple choice) one score each.

    Raises:
        ContractError: the logits have no shape that fits the scores.
    """
    with torch.no_grad():
        output = stock(**_inputs(feature))
    logits = [value for value in output.to_tuple() if isinstance(value, Tensor)]
    lengths = {len(sequence) for sequence in feature.sequences}
    stacked = torch.stack(logits, -1) if len(logits) > 1 else logits[0]
    reads = torch.as_tensor(feature.reads)
    if stacked.dim() == 3 and stacked.shape[1] in lengths:
        stacked = stacked[:, reads]
    if not isinstance(scores, Tensor) or stacked.numel() != scores.numel():
        raise ContractError(
            f"the exported model gives {tuple(stacked.shape)} logits, the head's scores are "
            f"{tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__}",
            "export a class whose logits are the head's scores, or override "
            "test_export_gives_equal_scores to compare them in your own way",
        )
    return float((stacked.reshape(-1) - scores.reshape(-1)).abs().max())


def _inputs(feature: Feature) -> dict[str, Tensor]:
    """One feature as transformers takes it: (1, L), or (1, C, L) for several sequences."""
    ids, types, mask = (
        pad_sequence([torch.as_tensor(part.astype("int64")) for part in parts], batch_first=True)
        for parts in zip(*((s.ids, s.types, s.ids * 0 + 1) for s in feature.sequences), strict=True)
    )
    inputs = {"input_ids": ids, "token_type_ids": types, "attention_mask": mask}
    if len(feature.sequences) > 1:
        return {name: value[None] for name, value in inputs.items()}
    return inputs
