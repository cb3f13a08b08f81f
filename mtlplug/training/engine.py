"""DeepSpeed around the model: exact steps over ranks and micro-batches, evaluation, weights.

The gradient of a step is the gradient of the mean loss over the whole batch, whatever the
number of ranks and micro-batches and the ZeRO stage. `managed_gradient_accumulation = false`
leaves the boundary of a step to us: `backward` accumulates, `step` reduces and updates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import deepspeed
import torch
from deepspeed import DeepSpeedConfigError
from torch import Tensor, nn

from mtlplug.batching.loader import Step
from mtlplug.batching.micro_batch import MicroBatch
from mtlplug.config import RunConfig
from mtlplug.errors import MtlplugError
from mtlplug.model.joined import join
from mtlplug.model.multitask import MultiTaskModel, Output
from mtlplug.training import state
from mtlplug.training.checkpoint import Found, Part
from mtlplug.training.zero import LightStep
from mtlplug.world import World


class Engine:
    """Trains and evaluates one model under DeepSpeed.

    Args:
        model: encoder and heads, in float32; DeepSpeed casts and partitions it.
        config: the options of the run.
        deepspeed_config: resolved (`mtlplug.training.deepspeed_config`).
        total_steps: steps over which the learning rate decays.
        world: the processes of the run.

    Attributes:
        precision: fp32, bf16 or fp16.
        stage: of ZeRO.
    """

    def __init__(
        self,
        model: MultiTaskModel,
        config: RunConfig,
        deepspeed_config: Mapping[str, Any],
        total_steps: int,
        world: World,
    ) -> None:
        self.world = world
        self.stage = int(deepspeed_config["zero_optimization"]["stage"])
        self.precision = precision_of(deepspeed_config)
        model.to(world.device)
        if self.stage == 3:
            for head in model.heads:
                as_one_module(head)
        own_optimizer = "optimizer" in deepspeed_config
        parameters = parameter_groups(model, config.weight_decay)
        optimizer = None if own_optimizer else adamw(parameters, config)
        own_schedule = "scheduler" in deepspeed_config
        try:
            self.engine, *_ = deepspeed.initialize(
                model=model,
                optimizer=optimizer,
                model_parameters=parameters if own_optimizer else None,
                lr_scheduler=None if own_schedule else _linear_decay(config, total_steps),
                config=dict(deepspeed_config),
                dist_init_required=False,
            )
        except (AssertionError, ValueError, NotImplementedError, DeepSpeedConfigError) as error:
            if config.deepspeed_config is None:
                raise
            reason = " ".join(str(error).split()) or type(error).__name__
            raise MtlplugError(
                f"DeepSpeed refuses {config.deepspeed_config}: {reason}; change the file"
            ) from error
        if self.stage == 3:  # a head's weights are gathered before it runs; so are borrowed ones
            for head, parameter in model.loans():
                deepspeed.zero.register_external_parameter(head, parameter)
        self._light = LightStep(self.engine, world.size)
        if config.cuda_graphs and self.stage <= 1:  # beyond, gradients leave during the pass
            model.encoder.use_graphs(config.max_tokens)
        # From ZeRO-2 on gradients are reduced in the order of the backward pass.
        self.model.run_absent_heads = self.in_step

    @property
    def model(self) -> MultiTaskModel:
        """The model inside the engine."""
        model: MultiTaskModel = self.engine.module
        return model

    @property
    def in_step(self) -> bool:
        """Whether all ranks need the same number of micro-batches.

        ZeRO-2 and 3 communicate in every backward pass.
        """
        return self.stage >= 2

    @property
    def skipped_steps(self) -> int:
        """Steps skipped because the gradient was not finite; waits for the device."""
        self.engine.skipped_steps += self._light.take_skipped()
        return int(self.engine.skipped_steps)

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        return float(self.engine.get_lr()[0])

    @property
    def gradient_norm(self) -> float | None:
        """Norm of the last step's gradient before clipping; None where it was skipped."""
        norm = self.engine.get_global_grad_norm()
        value = math.nan if norm is None else float(norm)
        return value if math.isfinite(value) else None

    def step(self, step: Step) -> Tensor:
        """One optimizer step; returns this rank's share in the mean loss of the batch, detached."""
        total = self.accumulate_all(step)
        self.update()
        return total

    def accumulate_all(self, step: Step) -> Tensor:
        """The first half of a step: gradients; returns this rank's share in the loss, detached."""
        total = torch.zeros((), device=self.world.device)
        for micro_batch in step.micro_batches:
            total += self.accumulate(micro_batch)
        return total

    def accumulate(self, micro_batch: MicroBatch) -> Tensor:
        """Add a micro-batch's gradient to the step's; returns its share in the loss, detached.

        Its loss is already weighted by 1 / batch size; DeepSpeed divides sums of gradients by the
        number of ranks, which the factor takes back.
        """
        self.engine.train()
        loss: Tensor = self.engine(micro_batch.to(self.world.device)).loss
        self.engine.backward(loss * self.world.size, scale_wrt_gas=False)
        return loss.detach()

    def update(self) -> None:
        """Reduce the accumulated gradient over the ranks, clip it, and update the parameters."""
        try:
            self.engine.step()
            self._light.finish()
        except Exception as error:  # DeepSpeed raises a bare one
            if "loss scale already at minimum" not in str(error):
                raise
            raise MtlplugError(
                f"gradients overflow in fp16 at every loss scale, step {self.engine.global_steps}; "
                "use --precision bf16, or lower --learning-rate"
            ) from error

    def evaluate(self, micro_batch: MicroBatch) -> Output:
        """Losses and scores of a micro-batch, without dropout or gradients."""
        self.engine.eval()
        output: Output = self.engine(micro_batch)
        return output

    def weights(self) -> dict[str, Tensor]:
        """All parameters in float32 on the CPU, by name, on rank 0; every rank must call it.

        In fp16 and bf16 these are the optimizer's master weights, not the rounded copies.
        """
        weights = {}
        for name, parameter in self.model.named_parameters():
            value: Tensor | None = parameter
            if self.precision != "fp32" or self.stage == 3:
                value = deepspeed.utils.safe_get_full_fp32_param(parameter)
            if value is None:
                raise RuntimeError(f"DeepSpeed keeps no float32 weights of parameter {name}")
            if self.world.main:
                weights[name] = value.detach().to("cpu", torch.float32).clone()
        return weights

    @property
    def state_size(self) -> int:
        """Bytes of this rank's part of a checkpoint, about."""
        return state.size_of(self.engine)

    def capture(self, *, ahead: bool) -> Part:
        """What this rank adds to a checkpoint.

        Args:
            ahead: training goes on while it is written.
        """
        return Part(*state.capture(self.engine, copy=ahead))

    def shared(self) -> dict[str, Any]:
        """What a checkpoint holds of the engine beside the parts of the ranks."""
        _ = self.skipped_steps  # counts those of the last steps
        return state.capture_shared(self.engine)

    def restore(self, found: Found) -> None:
        """Go on from a checkpoint, whatever number of ranks wrote it."""
        shards = found.shards()
        state.restore(self.engine, shards, found.progress["engine"])
        if found.world_size == self.world.size:
            state.restore_random(self.engine, shards)


def as_one_module(head: nn.Module) -> None:
    """Let ZeRO-3 see a head as one module with one output; call it before `initialize`.

    ZeRO-3 gathers weights at every call of a module, and in the backward pass once for each tensor
    that the call returned. Ranks must do so equally often. But how often a head calls a layer, and
    how many tensors it returns, may depend on its rows: once for each feature, say.
    """
    deepspeed.utils.set_z3_leaf_module(head, True)
    # Hooks run in the order they came: DeepSpeed's own see what this one returns.
    head.register_forward_hook(lambda _head, _rows, scores: join(scores))


def load_weights(model: nn.Module, found: Found) -> None:
    """Put the float32 weights of a checkpoint into a model."""
    shards, shapes = found.shards(), found.progress["engine"]["shapes"]
    buffers = set(shards.buffers())
    # By parameter: a state dict has one that is shared under each of its names.
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(shards.whole(name, shapes[name]))
        for name, buffer in model.named_buffers():
            if name in buffers:
                buffer.copy_(shards.buffer(name, 0))


def precision_of(deepspeed_config: Mapping[str, Any]) -> str:
    """The precision a DeepSpeed configuration asks for."""
    for precision in ("fp16", "bf16"):
        if deepspeed_config.get(precision, {}).get("enabled"):
            return precision
    return "fp32"


def parameter_groups(model: MultiTaskModel, weight_decay: float) -> list[dict[str, Any]]:
    """Weights with decay; biases and normalisation without, as transformers' Trainer has it.

    Parameters of the loss weighting, where it has any, are a last group without decay, and
    `rate_factor` is what their learning rate is multiplied by.
    """
    own = list(model.weighting.parameters()) if model.weighting else []
    rest = [each for each in model.parameters() if all(each is not other for other in own)]
    groups = [{"params": rest, "weight_decay": weight_decay}]
    if weight_decay:
        decayed = [parameter for parameter in rest if parameter.dim() > 1]
        others = [parameter for parameter in rest if parameter.dim() <= 1]
        groups = [
            {"params": decayed, "weight_decay": weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
    if own:
        factor = getattr(model.weighting, "rate_factor", 1.0)
        groups.append({"params": own, "weight_decay": 0.0, "rate_factor": factor})
    return groups


def adamw(groups: list[dict[str, Any]], config: RunConfig) -> torch.optim.AdamW:
    """AdamW with the defaults of transformers' Trainer (Padmakumar et al., 2022, B.2)."""
    return torch.optim.AdamW(
        [{**group, "lr": config.learning_rate * group.get("rate_factor", 1)} for group in groups],
        lr=config.learning_rate,
        betas=(0.9, 0.999),
        eps=1e-8,
        fused=True,  # one pass over the weights, on CPUs too
    )


def _linear_decay(config: RunConfig, total_steps: int) -> Any:
    """A schedule for DeepSpeed: linear warm-up, then linear decay to zero."""
    warmup = math.ceil(config.warmup_ratio * total_steps)

    def factor(step: int) -> float:
        if step < warmup:
            return step / warmup
        return max(0.0, (total_steps - step) / max(1, total_steps - warmup))

    return lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
