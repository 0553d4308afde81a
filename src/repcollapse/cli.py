"""The command line: ``repcollapse train`` and its like.

Importing this module is light: torch and all that needs it is imported by the command that runs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from repcollapse import __version__

if TYPE_CHECKING:
    from repcollapse.pretraining import Settings
    from repcollapse.pretraining.loop import Row, Watcher

app = typer.Typer(
    name="repcollapse",
    help="Representation collapse: train embeddings and measure what becomes of them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

SIGNALLED = 128  # by convention the status of a process that a signal ended is this and its number


def main() -> None:
    """Run the command line."""
    app()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"repcollapse {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Say which it is."),
    ] = False,
) -> None:
    pass


_RUN, _DATA = "How it runs", "Data"
_OPTIMISATION, _OUTPUT = "Model and optimisation", "Output"


@app.command()
def train(
    *,
    method: Annotated[
        str,
        typer.Option(
            help="What to train: a name in repcollapse.methods, such as simclr, byol or vicreg. "
            "A wrong one lists them all."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            help="Folder for checkpoints, metrics.jsonl and result.json.",
            rich_help_panel=_OUTPUT,
            show_default="runs/METHOD-DATASET-ENCODER",
        ),
    ] = None,
    dataset: Annotated[
        str,
        typer.Option(
            help="digits, sprites, fashion_mnist or cifar10. The last two are read from the folder "
            "that REPCOLLAPSE_DATA names, or downloaded.",
            rich_help_panel=_DATA,
        ),
    ] = "cifar10",
    limit: Annotated[
        int | None,
        typer.Option(help="Train on that many images only.", rich_help_panel=_DATA),
    ] = None,
    test_limit: Annotated[
        int, typer.Option(help="Test on that many images at most.", rich_help_panel=_DATA)
    ] = 2000,
    probe_limit: Annotated[
        int,
        typer.Option(help="Fit probes on that many images at most.", rich_help_panel=_DATA),
    ] = 5000,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="mlp, conv or resnet18; by default the method's.", rich_help_panel=_OPTIMISATION
        ),
    ] = None,
    dimension: Annotated[
        int | None,
        typer.Option(
            help="Of the embeddings z; by default the method's.", rich_help_panel=_OPTIMISATION
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            help="Passes over the data; 100 where neither this nor --steps is given.",
            rich_help_panel=_OPTIMISATION,
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(help="Optimiser steps, instead of --epochs.", rich_help_panel=_OPTIMISATION),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            help="Images a step, over all processes together; by default the method's.",
            rich_help_panel=_OPTIMISATION,
        ),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(
            help="Adam's rate at the start of the cosine; by default the method's.",
            rich_help_panel=_OPTIMISATION,
        ),
    ] = None,
    weight_decay: Annotated[
        float | None,
        typer.Option(help="By default the method's.", rich_help_panel=_OPTIMISATION),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            help="Governs split, initialisation, order and views.", rich_help_panel=_OPTIMISATION
        ),
    ] = 0,
    device: Annotated[
        str,
        typer.Option(help="auto, cpu, cuda or another device of torch.", rich_help_panel=_RUN),
    ] = "auto",
    amp: Annotated[
        bool | None,
        typer.Option(
            help="Autocast to bfloat16; by default on a GPU.",
            show_default=False,
            rich_help_panel=_RUN,
        ),
    ] = None,
    channels_last: Annotated[
        bool,
        typer.Option(
            "--channels-last/--no-channels-last",
            help="Keep images and convolutions in that memory format; faster on GPUs.",
            rich_help_panel=_RUN,
        ),
    ] = False,
    dtype: Annotated[
        str, typer.Option(help="float32, or float64 for checks.", rich_help_panel=_RUN)
    ] = "float32",
    checkpoint_every: Annotated[
        int,
        typer.Option(
            help="Steps between checkpoints, of which the last two are kept. One is also written "
            "at the end and on SIGTERM.",
            rich_help_panel=_OUTPUT,
        ),
    ] = 1000,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume/--no-resume",
            help="Go on from the newest checkpoint in --out, which must be of the same settings; "
            "or remove what is there and begin anew.",
            rich_help_panel=_OUTPUT,
        ),
    ] = True,
    log_every: Annotated[
        int,
        typer.Option(
            help="Steps between two readings of the loss and the batch's spread.",
            rich_help_panel=_OUTPUT,
        ),
    ] = 50,
    evaluate_every: Annotated[
        int,
        typer.Option(
            help="Steps between two readings of the instruments on test views; 0: at the end only.",
            rich_help_panel=_OUTPUT,
        ),
    ] = 0,
) -> None:
    """Train a method on a whole data set, resumably, on one device or several.

    The same command goes on where an earlier one was stopped or killed, and ends with the numbers
    of a run that was not. Several processes share the batch and give one process's result:

    torchrun --nproc-per-node=2 -m repcollapse train --method vicreg
    """
    given = dict(locals())
    with _usage_errors():
        from repcollapse.pretraining import Settings

        names = {field.name for field in fields(Settings)}
        settings = Settings(**{name: value for name, value in given.items() if name in names})
    out = out or Path("runs", f"{settings.method}-{settings.dataset}-{settings.encoder}")
    _train(settings, out, device=device, resume=resume, checkpoint_every=checkpoint_every)


def _train(settings: Settings, out: Path, *, device: str, **options: Any) -> None:
    from repcollapse.pretraining import CheckpointError, Stopped, TrainingError, pretrain, processes

    with _usage_errors(), processes.process_group(device) as own:
        first = processes.rank() == 0
        try:
            with _watcher(first) as watcher:
                result = pretrain(settings, out, device=own, watcher=watcher, **options)
        except Stopped as stopped:
            if first:
                typer.echo(
                    f"{stopped}: a checkpoint is in {out}; the same command goes on", err=True
                )
            raise typer.Exit(SIGNALLED + stopped.number) from None
        except (CheckpointError, TrainingError, OSError, ImportError) as error:
            _fail(str(error))
    if result:
        _show(result, out)


def _fail(message: str) -> NoReturn:
    typer.echo(f"Error: {message}", err=True)
    raise typer.Exit(1) from None


@contextmanager
def _usage_errors() -> Iterator[None]:
    """Turn what a check says of an argument into a usage error that names the option.

    Every check's message begins with the argument's name. A message that begins otherwise is of a
    file's content.
    """
    try:
        yield
    except (TypeError, ValueError) as error:
        name, _, said = str(error).partition(" ")
        if name not in train.__annotations__:
            if isinstance(error, TypeError):
                raise
            _fail(str(error))
        option = "--" + name.replace("_", "-")
        raise typer.BadParameter(said, param_hint=option) from error


@contextmanager
def _watcher(first: bool) -> Iterator[Watcher]:
    """Yield a watcher that shows a bar on a terminal, and lines elsewhere."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from repcollapse.pretraining.loop import Watcher

    console = Console(stderr=True)
    bar = Progress(
        BarColumn(None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[reading]}"),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
        console=console,
        disable=not (first and console.is_terminal),
        speed_estimate_period=60,
    )
    task = bar.add_task("", total=None, reading="", speed="")
    total = 0

    def started(step: int, steps: int) -> None:
        nonlocal total
        total = steps
        bar.reset(task, total=steps, completed=step)

    def stepped(step: int, row: Row | None) -> None:
        speed = bar.tasks[0].speed
        bar.update(task, completed=step, speed=f"{speed:.2f} steps/s" if speed else "")
        if row is not None:
            reading = _reading(row)
            bar.update(task, reading=reading)
            if bar.disable:
                console.print(f"step {step}/{total}  {reading}", highlight=False, soft_wrap=True)

    def said(message: str) -> None:
        console.print(message, highlight=False, soft_wrap=True, markup=False)

    with bar:
        yield Watcher(started, stepped, said)


def _reading(row: Row) -> str:
    shown = [("loss", "loss"), ("spread", "batch_spread")]
    return "  ".join(f"{name} {row[key]:.4f}" for name, key in shown if key in row)


def _show(result: dict[str, Any], out: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "reading", "value", title=f"{result['settings']['method']}, {result['steps']} steps"
    )
    for name, value in (result["final"] | result["probes"]).items():
        table.add_row(name, f"{value:.4g}")
    table.add_row("steps/s", f"{result['steps_per_second']:.3g}")
    console = Console(file=sys.stdout)
    console.print(table)
    console.print(f"{out}", soft_wrap=True, highlight=False)


# --- questions about embeddings that exist; what answers them is in repcollapse.commandline

_FILES = (
    ".npy, .npz, .safetensors, .pt (weights only), .parquet or .csv; FILE::NAME names one array of "
    "several. Nothing is ever unpickled."
)
_Files = Annotated[
    list[str], typer.Argument(metavar="FILE...", help=f"Embeddings, shape (N, D): {_FILES}")
]
_Labels = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FILE",
        help="Class of every row. Once for all rows, or once for each file.",
        rich_help_panel=_DATA,
    ),
]
_Html = Annotated[
    Path | None,
    typer.Option(help="Also write the report as one self-contained page.", rich_help_panel=_OUTPUT),
]
_Json = Annotated[
    Path | None,
    typer.Option(
        help="Also write every number; with - instead of the report, on standard output.",
        rich_help_panel=_OUTPUT,
    ),
]
_FailOn = Annotated[
    str | None,
    typer.Option(
        metavar="VERDICT,...",
        help="Exit with status 1 on these verdicts: not-enough-data, complete, cluster, "
        "dimensional, cone, healthy; or where one of these was found beside it: class-collapse, "
        "classes-lost, shortcut, noise, shrunken, zero-rows, duplicates, dead-dimensions, "
        "outliers.",
        rich_help_panel=_OUTPUT,
    ),
]


@app.command()
def diagnose(
    files: _Files,
    *,
    labels: _Labels = None,
    views: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Embeddings of V views of each of n samples, shape (V, n, D).",
            rich_help_panel=_DATA,
        ),
    ] = None,
    groups: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="Identifier of every row: rows of one are views of one sample.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    html: _Html = None,
    json: _Json = None,
    fail_on: _FailOn = None,
) -> None:
    """Say whether embeddings have collapsed, in which way, and on what evidence.

    Several files are one data set, in the order given. They are read block by block, so that they
    may be larger than memory. Several processes share the rows and give one process's numbers:

    torchrun --nproc-per-node=4 -m repcollapse diagnose shard-*.npy

    Exit status: 0 answered, 1 what --fail-on names, 2 wrong usage or input.

    torchrun itself ends with 1 for both 1 and 2, and a traceback of its own. The line that begins
    with "Error:" says what was wrong; there is none for a verdict, and --json is written.
    """
    from repcollapse.commandline.output import answering, require_files

    with answering():
        require_files([*files, *(labels or ()), *(groups or ()), *([views] if views else ())])
        from repcollapse.commandline.diagnose import run

        run(
            files,
            labels=labels or (),
            groups=groups or (),
            views=views,
            html=html,
            json=json,
            fail_on=fail_on,
        )


@app.command()
def compare(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help=f"Checkpoints' embeddings in their order, shape (N, D): {_FILES}",
        ),
    ],
    *,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Class of every row, the same for all files.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    html: _Html = None,
    json: _Json = None,
    fail_on: _FailOn = None,
) -> None:
    """Say when a training collapsed, from embeddings of its checkpoints.

    Exit status: 0 answered, 1 what --fail-on names at any checkpoint, 2 wrong usage or input.
    """
    from repcollapse.commandline.output import answering, require_files

    with answering():
        require_files([*files, *([labels] if labels else ())])
        from repcollapse.commandline.compare import run

        run(files, labels=labels, html=html, json=json, fail_on=fail_on)


@app.command()
def explain(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="A number or a verdict, such as rankme or dimensional. Without one all are "
            "listed.",
        ),
    ] = None,
    *,
    rows: Annotated[
        int | None, typer.Option(help="With --dimension: what isotropic data of that size read.")
    ] = None,
    dimension: Annotated[int | None, typer.Option(help="See --rows.")] = None,
    loss: Annotated[
        float | None, typer.Option(help="A loss that you saw, instead of a name.")
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(
            help="Whose loss it is, by its name or its method's: nt_xent, NT-Xent or simclr. A "
            "wrong one lists them all."
        ),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="What the loss depends on: prototypes=4096."
        ),
    ] = None,
) -> None:
    """Say what a number, a verdict or the value of a loss means, and how it misleads."""
    from repcollapse.commandline.output import RefusalError, answering

    with answering():
        from repcollapse.commandline import explain as explained

        if loss is None and (objective or setting):
            raise RefusalError(
                "--objective and --set belong to --loss: give the value that you saw"
            )
        if loss is None:
            explained.run(name, rows=rows, dimension=dimension)
        elif name is not None or rows is not None or dimension is not None:
            raise RefusalError("--loss is explained alone: leave NAME, --rows and --dimension out")
        else:
            explained.of_loss(loss, objective, setting or ())


@app.command()
def demo() -> None:
    """Show what the answers look like, on embeddings whose state is known."""
    from repcollapse.commandline.output import answering

    with answering():
        from repcollapse.commandline.demo import run

        run()
