"""`mtlplug bench`: what an epoch of each combination of groups costs on this machine."""

from __future__ import annotations

import dataclasses
import json
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from rich.console import Console

from mtlplug.bench.ceiling import gemm_ceiling, highest
from mtlplug.bench.cost import Cost, summarise
from mtlplug.bench.lengths import PADDED, Lengths
from mtlplug.bench.machine import describe_machine
from mtlplug.bench.measure import Stopwatch, dtype_of
from mtlplug.bench.show import cost_table, draw, padded_table, prediction_table
from mtlplug.bench.simulate import Link, predict
from mtlplug.data.build import TRAIN
from mtlplug.data.suites import load_suite
from mtlplug.errors import MtlplugError
from mtlplug.model.encoder import Encoder
from mtlplug.model.flops import encoder_flops
from mtlplug.model.vocabulary import leave_out_unused
from mtlplug.pages.typesetting import new_console, print_table
from mtlplug.training.deepspeed_config import resolve_deepspeed
from mtlplug.training.launch import start
from mtlplug.training.memory import give_back_memory
from mtlplug.training.pretrain import build_data, prepare_steps
from mtlplug.workspace import Workspace, open_workspace
from mtlplug.world import World

PAPER = "padmakumar2022"
"""Suite of the paper whose epoch times stand beside ours."""


@dataclass(frozen=True)
class Settings:
    """What a benchmark does beside what a run is told.

    Attributes:
        groups: combinations separated by commas, or `all`.
        steps: steps to time of each combination.
        compare: time the other ways too.
        price: of an hour of all ranks together, in any currency; None: not asked.
        ranks: numbers of ranks to predict an epoch for.
        link: between ranks.
        json: file for the results.
        picture: SVG or PNG file.
    """

    groups: str
    steps: int
    compare: bool
    price: float | None
    ranks: Sequence[int]
    link: Link
    json: Path | None
    picture: Path | None

    @classmethod
    def of(cls, groups: str, options: dict[str, Any]) -> Settings:
        """Take what is the benchmark's own out of the options of its command.

        Raises:
            MtlplugError: a value cannot be used.
        """
        ranks, simulate = options.pop("ranks"), options.pop("simulate")
        bandwidth, latency = options.pop("bandwidth"), options.pop("latency")
        if bandwidth <= 0 or latency < 0:
            raise MtlplugError(
                f"--bandwidth {bandwidth:g} must be above 0, --latency {latency:g} 0 or more"
            )
        own = {name: options.pop(name) for name in ("steps", "compare", "price", "json", "picture")}
        return cls(
            groups=groups,
            ranks=_ranks(ranks) if simulate else (),
            link=Link(bandwidth * 1e9, latency * 1e-6),
            **own,
        )

    def __post_init__(self) -> None:
        if self.steps < 2:
            raise MtlplugError(f"--steps is {self.steps}; an interval needs 2 or more")
        if self.price is not None and self.price < 0:
            raise MtlplugError(f"--price is {self.price}; it must be 0 or more")
        for file, option in ((self.json, "--json"), (self.picture, "--picture")):
            if file is not None and not file.absolute().parent.is_dir():
                raise MtlplugError(f"{option} {file}: folder {file.parent} does not exist; make it")
        if self.picture is not None and self.picture.suffix not in (".svg", ".png"):
            raise MtlplugError(f"--picture {self.picture} is neither .svg nor .png")


def bench(settings: Settings, options: Mapping[str, Any]) -> dict[str, Any]:
    """Measure every combination, print tables, write what was asked for; returns the results.

    Raises:
        MtlplugError: an option, the data or the model is wrong.
    """
    workspace = open_workspace({**options, "groups": settings.groups})
    chosen = workspace.suite.combinations(settings.groups)
    for groups in chosen:
        workspace.suite.select(groups)
    world = start()
    if settings.ranks and world.size > 1:
        raise MtlplugError(
            "--simulate foretells from what one rank takes; start the command without a launcher"
        )
    console = new_console(quiet=not world.main)
    costs = []
    for number, groups in enumerate(chosen, start=1):
        console.print(f"{groups}: {number} of {len(chosen)}", style="dim")
        costs.append(_cost(workspace, settings, groups, world, console))
        give_back_memory()
    report = {
        "command": ["mtlplug", *sys.argv[1:]],
        "machine": describe_machine(world),
        "options": workspace.config.as_dict(),
        "precision": costs[0].precision,
        "settings": dataclasses.asdict(settings),
        "paper": paper_of(workspace),
        "combinations": [dataclasses.asdict(cost) for cost in costs],
    }
    _show(report, costs, settings, console)
    if world.main and settings.json is not None:
        text = json.dumps(report, indent=1, default=str)  # paths as text
        settings.json.write_text(text + "\n", encoding="utf-8")
    if world.main and settings.picture is not None:
        draw(costs, title_of(report), settings.picture)
    return report


def _ranks(text: str) -> tuple[int, ...]:
    """Numbers of ranks, separated by commas."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise MtlplugError(f"--ranks is '{text}'; write whole numbers above 0, as 8,64,512")
    return tuple(map(int, parts))


def _cost(
    workspace: Workspace, settings: Settings, groups: str, world: World, console: Console
) -> Cost:
    config = workspace.config
    data = build_data(workspace, workspace.suite.select(groups), console)
    encoder = Encoder.from_pretrained(
        config.model, gradient_checkpointing=config.gradient_checkpointing
    )
    flops = encoder_flops(encoder)
    deepspeed_config = resolve_deepspeed(config, world.size)
    leave_out_unused(encoder, data, config, deepspeed_config)  # as a run does
    engine, pool, loader = prepare_steps(workspace, data, encoder, deepspeed_config, world)
    most = [workspace.builder().length(each.task) for each in data]
    lengths = Lengths([each.stores[TRAIN] for each in data], most)
    stopwatch = Stopwatch(
        engine, loader, pool, lengths, flops, world,
        ways=tuple(PADDED) if settings.compare else (),
        ranks=settings.ranks,
    )  # fmt: skip
    multiply = partial(gemm_ceiling, encoder.hidden_size, dtype_of(engine.precision), world.device)
    with console.status(f"timing {settings.steps} steps of {groups}"):
        before = multiply()
        measured = stopwatch.run(settings.steps)
        ceilings = highest(before, multiply())
    size = sum(parameter.numel() for parameter in engine.model.parameters())
    bytes_each = dtype_of(engine.precision).itemsize
    predictions = predict(
        loader.packer, pool, measured.model, settings.ranks, size * bytes_each, settings.link
    )
    return summarise(groups, len(data), stopwatch, measured, ceilings, predictions, settings.price)


def title_of(report: Mapping[str, Any]) -> str:
    """What the picture shows, in a line."""
    options, machine = report["options"], report["machine"]
    model = Path(options["model"])
    name = model.parent.name if model.name == "model" else model.name
    return (
        f"An epoch of suite {options['suite']}, encoder {name}, batch {options['batch_size']}, "
        f"{report['precision']}, {machine['ranks']} x {machine['device']}"
    )


def paper_of(workspace: Workspace) -> dict[str, Any]:
    """The paper's epoch times, by groups; empty for a suite most of whose tasks are others."""
    theirs, ours = load_suite(PAPER, workspace.plugins.formats).tasks, workspace.suite.tasks
    if len(theirs.keys() & ours.keys()) * 2 < len(ours):
        return {}
    text = files("mtlplug.bench").joinpath(f"{PAPER}.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def _show(
    report: Mapping[str, Any], costs: Sequence[Cost], settings: Settings, console: Console
) -> None:
    print_table(console, cost_table(costs, report["paper"]))
    if settings.compare:
        print_table(console, padded_table(costs))
    if settings.ranks:
        print_table(console, prediction_table(costs, settings.link))
