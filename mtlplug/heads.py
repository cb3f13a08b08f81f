"""The heads of transformers' stock classes, so that a trained head can be exported lossless.

Padmakumar et al. (2022), section 3.1 and appendix B.1: linear classifiers on the encoder's
output, per the transformers implementation. Shapes: R rows, D hidden width, K scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from torch import Tensor, nn

from mtlplug.errors import MtlplugError, unknown
from mtlplug.ragged import Splits

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

INITIALIZER_RANGE = 0.02
"""Standard deviation of new weights: transformers' default for BERT, RoBERTa and XLM-R."""


SEQUENCE_LAYERS = {
    "albert": ("albert.pooler", "classifier"),
    "bert": ("bert.pooler.dense", "classifier"),
    "camembert": ("classifier.dense", "classifier.out_proj"),
    "deberta": ("pooler.dense", "classifier"),
    "deberta-v2": ("pooler.dense", "classifier"),
    "distilbert": ("pre_classifier", "classifier"),
    "electra": ("classifier.dense", "classifier.out_proj"),
    "modernbert": ("head.dense", "classifier"),
    "mpnet": ("classifier.dense", "classifier.out_proj"),
    "roberta": ("classifier.dense", "classifier.out_proj"),
    "xlm-roberta": ("classifier.dense", "classifier.out_proj"),
}
"""Where transformers' sequence classifiers keep the dense and the projecting layer."""


class Form(NamedTuple):
    """What the stock heads of a family of encoders have before their last layer.

    Attributes:
        activation: behind the dense layer, by transformers' name for it.
        norm: a layer norm behind that; then token and span heads have all three, too.
    """

    activation: str = "tanh"
    norm: bool = False


def form_of(config: PretrainedConfig) -> Form:
    """The form of the stock heads of an encoder's family."""
    family = config.model_type
    if family == "modernbert":
        return Form(config.classifier_activation, norm=True)
    if family in ("deberta", "deberta-v2"):
        return Form(config.pooler_hidden_act)
    return Form({"distilbert": "relu", "electra": "gelu"}.get(family, "tanh"))


class StockHead(nn.Module):
    """A head that transformers' stock classes have, in the form of the encoder's family.

    It is made in the form most families have; the core has it `suit` the encoder before
    anything is trained. *Shape:* (R, D) -> (R, K).

    Attributes:
        has_dense: whether a dense layer and its activation come before the last one.
    """

    has_dense = False

    def __init__(self, hidden_size: int, outputs: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.form = Form()
        self.dropout = nn.Dropout(dropout)
        self.dense = new_linear(hidden_size, hidden_size) if self.has_dense else None
        self.activation: nn.Module = nn.Tanh()
        self.norm: nn.Module | None = None
        self.projection = new_linear(hidden_size, outputs)

    def suit(self, config: PretrainedConfig) -> None:
        """Take the form of an encoder's family; nothing changes in most of them."""
        from transformers.activations import ACT2FN

        self.form = form_of(config)
        if self.form.norm:
            size = self.projection.in_features
            self.dense = new_linear(size, size, bias=config.classifier_bias)
            self.norm = nn.LayerNorm(size, eps=config.norm_eps, bias=config.norm_bias)
        self.activation = ACT2FN[self.form.activation]

    def transformed(self, rows_RD: Tensor) -> Tensor:
        """What the last layer reads: rows, or what dense layer, activation and norm make of them.

        *Shape:* (R, D) -> (R, D).
        """
        if self.dense is not None:
            rows_RD = self.activation(self.dense(rows_RD))
        return rows_RD if self.norm is None else self.norm(rows_RD)

    def stock_layers(self, config: PretrainedConfig) -> dict[str, nn.Module]:
        """Our layers by the names that the stock class of a family has for them.

        Raises:
            MtlplugError: the stock class computes something else than this head.
        """
        form = form_of(config)
        if self.form.norm != form.norm or (self.dense is not None and self.form != form):
            raise MtlplugError(
                f"this head has another form than the stock class of '{config.model_type}' "
                "encoders; it was not made for that family"
            )
        return {"head.norm": self.norm} if self.norm is not None else {}


class TokenHead(StockHead):
    """One linear layer on every row: `logits = W dropout(x) + b`.

    As in `RobertaForTokenClassification` and `RobertaForQuestionAnswering` (which has no
    dropout). ModernBERT has a dense layer, its activation and a layer norm before it.
    *Shape:* (R, D) -> (R, K).
    """

    def forward(self, rows_RD: Tensor, splits: Splits) -> Tensor:
        """Scores of every row."""
        return cast(Tensor, self.projection(self.dropout(self.transformed(rows_RD))))

    def stock_layers(
        self, config: PretrainedConfig, projection: str = "classifier"
    ) -> dict[str, nn.Module]:
        """See `StockHead`; `projection` is what most families call the last layer."""
        layers = super().stock_layers(config)
        if self.dense is None:
            return {projection: self.projection}
        return layers | {"head.dense": self.dense, "classifier": self.projection}


class SequenceHead(StockHead):
    """Dense, tanh, projection: `logits = W2 dropout(tanh(W1 dropout(x) + b1)) + b2`.

    As in `RobertaClassificationHead`; BERT's pooler and classifier compute the same. ELECTRA,
    DeBERTa and DistilBERT have another activation, ModernBERT a layer norm behind it, too. Every
    feature reads one row, the first token's. *Shape:* (B, D) -> (B, K).
    """

    has_dense = True

    def forward(self, rows_RD: Tensor, splits: Splits) -> Tensor:
        """Scores of every feature."""
        hidden_RD = self.transformed(self.dropout(rows_RD))
        return cast(Tensor, self.projection(self.dropout(hidden_RD)))

    def stock_layers(self, config: PretrainedConfig) -> dict[str, nn.Module]:
        """See `StockHead`.

        Raises:
            MtlplugError: nothing is known of this family's sequence classifier.
        """
        family = config.model_type
        if family not in SEQUENCE_LAYERS:
            raise unknown("family of encoders for a stock classifier", family, SEQUENCE_LAYERS)
        ours = (cast(nn.Module, self.dense), self.projection)
        named = dict(zip(SEQUENCE_LAYERS[family], ours, strict=True))
        return super().stock_layers(config) | named


def new_linear(inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    """A linear layer initialised as transformers does: normal weights, zero bias."""
    layer = nn.Linear(inputs, outputs, bias=bias)
    nn.init.normal_(layer.weight, std=INITIALIZER_RANGE)
    if bias:
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
    config.classifier_pooling = "cls"  # ModernBERT may take the mean over tokens, and we do not
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
            f"{stock_class.__name__} has other layers than ours for '{config.model_type}' encoders"
        ) from error
    return model.eval()
