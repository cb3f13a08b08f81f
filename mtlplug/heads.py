"""The heads of transformers' stock classes, so that a trained head can be exported lossless.

Padmakumar et al. (2022), section 3.1 and appendix B.1: linear classifiers on the encoder's
output, per the transformers implementation. Shapes: R rows, D hidden width, K scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor, nn

from mtlplug.errors import MtlplugError
from mtlplug.ragged import Splits

if TYPE_CHECKING:
    from transformers import PreTrainedModel

INITIALIZER_RANGE = 0.02
"""Standard deviation of new weights: transformers' default for BERT, RoBERTa and XLM-R."""


class TokenHead(nn.Module):
    """One linear layer on every row: `logits = W dropout(x) + b`.

    As in `RobertaForTokenClassification` and `RobertaForQuestionAnswering` (which has no
    dropout). *Shape:* (R, D) -> (R, K).
    """

    def __init__(self, hidden_size: int, outputs: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.projection = new_linear(hidden_size, outputs)

    def forward(self, rows_RD: Tensor, splits: Splits) -> Tensor:
        """Scores of every row."""
        return cast(Tensor, self.projection(self.dropout(rows_RD)))


class SequenceHead(nn.Module):
    """Dense, tanh, projection: `logits = W2 dropout(tanh(W1 dropout(x) + b1)) + b2`.

    As in `RobertaClassificationHead`; BERT's pooler and classifier compute the same. Every
    feature reads one row, the first token's. *Shape:* (B, D) -> (B, K).
    """

    def __init__(self, hidden_size: int, outputs: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.dense = new_linear(hidden_size, hidden_size)
        self.projection = new_linear(hidden_size, outputs)

    def forward(self, rows_RD: Tensor, splits: Splits) -> Tensor:
        """Scores of every feature."""
        hidden_RD = self.dense(self.dropout(rows_RD)).tanh()
        return cast(Tensor, self.projection(self.dropout(hidden_RD)))


def new_linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer initialised as transformers does: normal weights, zero bias."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=INITIALIZER_RANGE)
    nn.init.zeros_(layer.bias)
    return layer


def stock_model(
    stock_class: Any,
    encoder: PreTrainedModel,
    labels: Sequence[str],
    layers: Mapping[str, nn.Module],
) -> PreTrainedModel:
    """A stock transformers model made of a trained encoder and the layers of a trained head.

    Args:
        stock_class: an Auto class, for example `AutoModelForTokenClassification`.
        encoder: the encoder without its head.
        labels: names of the outputs in their order.
        layers: our layers by the names that the stock class gives them.

    Raises:
        MtlplugError: the class has other layers for this family of encoders.
    """
    names = dict(enumerate(labels))
    config = type(encoder.config).from_dict(encoder.config.to_dict())
    config.id2label, config.label2id = names, {name: number for number, name in names.items()}
    try:
        model: PreTrainedModel = stock_class.from_config(config)
        prefix = f"{model.base_model_prefix}."
        weights = encoder.state_dict()
        state = {prefix + k: v for k, v in weights.items() if not k.startswith("pooler.")}
        for stock, layer in layers.items():
            state |= {f"{stock}.{k}": v for k, v in layer.state_dict().items()}
        model.load_state_dict(state)
    except (ValueError, RuntimeError) as error:
        raise MtlplugError(
            f"{stock_class.__name__} has other layers than ours for '{config.model_type}' "
            "encoders; a lossless export is there for BERT, RoBERTa and XLM-R"
        ) from error
    return model.eval()
