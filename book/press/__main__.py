"""The commands of the press: ``python -m press build first_seed=100``."""

import argparse
import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from press import ledger
from press.address import write_address
from press.chapter import begin_chapter, require_written
from press.check import check
from press.execute import Executed, execute, say
from press.ledger import Claim
from press.project import DEFAULT_LIMIT, PressError, Project, exclusive
from press.render import jupyter_book, render
from press.stage import LEDGER_FILE, stage


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code."""
    options = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that children are ended, too
    try:
        options.run(options)
    except PressError as error:
        print(f"\n{error}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted: finished notebooks are kept", file=sys.stderr)
        return 130
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="press", description=__doc__)
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="the checkout")
    commands = parser.add_subparsers(required=True)
    runs: list[tuple[str, Callable[[argparse.Namespace], None], str]] = [
        ("build", build, "execute, stage, render and check"),
        ("replicate", replicate, "execute on other seeds and record the block"),
    ]
    for name, function, text in runs:
        command = commands.add_parser(name, help=text)
        command.add_argument("parameters", nargs="*", metavar="name=value")
        command.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
        command.add_argument(
            "--limit", type=float, default=DEFAULT_LIMIT, help="seconds a notebook"
        )
        command.set_defaults(run=function)
    command = commands.add_parser("chapter", help="begin a chapter that mends with a method")
    for name in ("name", "method", "title"):
        command.add_argument(name)
    command.add_argument("--part", default="", help="of the contents; that of the chapter before")
    command.set_defaults(run=chapter)
    command = commands.add_parser("address", help="write the repository's address")
    command.add_argument("url")
    command.set_defaults(run=address)
    command = commands.add_parser("linkcheck", help="ask whether external links still stand")
    command.set_defaults(run=linkcheck)
    return parser.parse_args(arguments)


def build(options: argparse.Namespace) -> None:
    """Make the site."""
    project = Project(options.root.resolve())
    parameters = parse_parameters(options.parameters)
    require_written(project)
    with exclusive(project):
        executed = execute(project, parameters, options.jobs, options.limit)
        claims = judge(project, executed, default=not parameters)
        stage(project, executed, claims)

        def finish(site: Path) -> None:
            shutil.copy(project.staged / LEDGER_FILE, site)
            offer_sources(project, site)
            check(site, {chapter.name: chapter.read() for chapter in executed}, claims)

        say("rendering" if render(project, finish) else "nothing changed: the site is kept")
    say(f"the book is in {project.html.relative_to(project.root)}/index.html")


def offer_sources(project: Project, site: Path) -> None:
    """Let the download button give the plain notebook, not the staged one with directives."""
    for source in project.notebooks:
        shutil.copy(source, site / "_sources" / "notebooks" / source.name)


def judge(project: Project, executed: Sequence[Executed], *, default: bool) -> list[Claim]:
    """Return the claims; in a default build each verdict must be the expected one."""
    claims = ledger.add_blocks(ledger.gather(executed), project.replications)
    for line in ledger.outdated(project, claims):
        say(line)
    unexpected = ledger.surprises(claims)
    text = "\n".join(unexpected)
    if unexpected and default:
        raise PressError(f"{len(unexpected)} of {len(claims)} claims differ:\n{text}")
    if unexpected:  # other seeds or data may say otherwise: shown on the pages, and here
        say(f"with these parameters {len(unexpected)} of {len(claims)} claims differ:\n{text}")
    return claims


def replicate(options: argparse.Namespace) -> None:
    """Measure every trained claim on other seeds and write the block to commit."""
    project = Project(options.root.resolve())
    parameters = parse_parameters(options.parameters)
    first_seed = parameters.get("first_seed")
    if set(parameters) != {"first_seed"} or not isinstance(first_seed, int):
        raise PressError("replicate takes first_seed=N with a whole number, and nothing else")
    require_written(project)
    with exclusive(project):
        executed = execute(project, parameters, options.jobs, options.limit)
        claims = ledger.gather(executed)
        path = ledger.write_replication(project, first_seed, claims)
    for line in ledger.surprises(claims):
        say(line)
    say(f"wrote {path.relative_to(project.root)}")


def chapter(options: argparse.Namespace) -> None:
    """Write a notebook to begin a chapter with."""
    project = Project(options.root.resolve())
    given = (options.name, options.method, options.title, options.part or None)
    for name in begin_chapter(project, *given):
        say(f"wrote {name}")


def address(options: argparse.Namespace) -> None:
    """Write the address of the repository."""
    for name in write_address(Project(options.root.resolve()), options.url):
        say(f"wrote the address into {name}")


def linkcheck(options: argparse.Namespace) -> None:
    """Check external links, beside the site: the check writes into its output folder."""
    project = Project(options.root.resolve())
    output = project.build / "linkcheck"
    shutil.rmtree(output, ignore_errors=True)
    jupyter_book(project, output, builder="linkcheck")
    say("all external links answer")


def parse_parameters(items: Sequence[str]) -> dict[str, object]:
    """``seeds=20 dataset=sprites`` as values."""
    parameters: dict[str, object] = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals or not name.isidentifier() or name in parameters:
            raise PressError(f"parameter {item!r}: expected name=value, each name once")
        parameters[name] = value_of(value)
    return parameters


def value_of(text: str) -> int | float | str:
    """A whole number if it reads as one, else a number, else the text as it was given."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


if __name__ == "__main__":
    sys.exit(main())
