"""What a command leaves behind: text on a terminal, whole files, a message, an exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import typer

from repcollapse.files import InputError, is_special, require_file, show, write_whole

ANSWERED, FAILED_ON, REFUSED = 0, 1, 2
DEFECT = 70  # EX_SOFTWARE of sysexits.h: neither an answer nor the user's doing
INTERRUPTED = 128 + 2
STANDARD = "-"
# What a terminal without Unicode gets instead.
ASCII = {
    **{"✗": "x", "✓": "v", "·": "-", "→": "->", "↑": "^", "↓": "v", "–": "-", "−": "-", "…": "..."},
    **{"─": "-", "━": "=", "│": "|", "×": "x", "∞": "inf", "≤": "<=", "≥": ">="},
    **dict.fromkeys("╭╮╰╯┌┐└┘├┤┬┴┼", "+"),
}


class RefusalError(Exception):
    """What the user asked for cannot be done; the text says what to do instead."""


def say(text: str, *, err: bool = False) -> None:
    """Write text, in what the stream's encoding has; a reader who has gone is no error."""
    stream = sys.stderr if err else sys.stdout
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeError:
        spelled = "".join(ASCII.get(c, c) for c in text)
        text = spelled.encode(encoding, errors="replace").decode(encoding)
    try:
        stream.write(text + "\n")
        stream.flush()
    except BrokenPipeError:
        # Whatever is flushed at exit goes nowhere too, instead of raising.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def refuse(message: str, status: int = REFUSED) -> NoReturn:
    """Say in one paragraph what is wrong, and end."""
    say(f"Error: {show(' '.join(message.split()))}", err=True)
    raise typer.Exit(status)


@contextmanager
def answering() -> Iterator[None]:
    """Turn whatever goes wrong into a message and an exit status; nobody is shown a traceback."""
    try:
        yield
    except typer.Exit:
        raise
    except KeyboardInterrupt:
        refuse("interrupted; nothing was written", INTERRUPTED)
    except Exception as error:
        refuse(*message_for(error))


def message_for(error: Exception) -> tuple[str, int]:
    """Return what to say of an error, and the exit status."""
    if isinstance(error, InputError | RefusalError):
        return str(error), REFUSED
    if isinstance(error, OSError):
        where = f"{show(os.fsdecode(error.filename))}: " if error.filename is not None else ""
        return f"{where}{error.strerror or error}", REFUSED
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return (
            "there is not enough memory: the state takes about 20 D x D matrices of float64, so "
            "project the embeddings onto fewer dimensions"
        ), REFUSED
    return (
        f"this is a defect of repcollapse, please report it: {type(error).__name__}: {error}",
        DEFECT,
    )


def require_place(path: Path, option: str, inputs: Sequence[Path]) -> None:
    """Raise where a report could not be written, before hours are spent on what it would say."""
    if path.is_dir():
        raise RefusalError(f"{option} {show(path)} is a folder: name a file in it")
    if not path.absolute().parent.is_dir():
        raise RefusalError(
            f"{option} {show(path)}: there is no folder {show(path.parent)}; make it"
        )
    if not os.access(path if is_special(path) else path.absolute().parent, os.W_OK):
        raise RefusalError(f"{option} {show(path)} cannot be written there: choose another folder")
    for each in inputs:
        if path.exists() and each.exists() and path.samefile(each):
            raise RefusalError(
                f"{option} {show(path)} would overwrite an input: choose another name"
            )


def require_files(locations: Iterable[str]) -> None:
    """Raise for a file that is not there, before seconds are spent on importing torch.

    One of several processes of torchrun leaves that to the opening of the files, whose trouble all
    of them hear of and one of them says.
    """
    if "WORLD_SIZE" in os.environ:
        return
    for location in locations:
        require_file(location)


def write_text(path: Path, text: str) -> None:
    """Write a file that is there as a whole or not at all."""
    write_whole(path, lambda file: file.write(text.encode()))
