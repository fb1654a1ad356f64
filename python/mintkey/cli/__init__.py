"""The `mintkey` command: IDs, and the tables of any store without the program's classes.

$ mintkey new ulid -n 3
$ mintkey inspect 01ARZ3NDEKTSV4RRFFQ69G5FAV
"""

from __future__ import annotations

import errno
import io
import os
import sys

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> None:
    """Run the command, and end the process with its exit code."""
    try:
        # Here, so that Ctrl-C is one line also while modules are loaded.
        from mintkey.cli.endings import signals_interrupt

        with signals_interrupt():
            code = _run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:
        from contextlib import suppress

        with suppress(OSError):
            print("mintkey: interrupted", file=sys.stderr, flush=True)
        code = 130
    sys.exit(code)


def _run(given: list[str]) -> int:
    """Run the command, and return its exit code."""
    from mintkey.cli.endings import Code, ending, urls_in

    try:
        _open_streams()
        from mintkey.cli.commands import command_of, complete

        if "_ARGCOMPLETE" in os.environ:
            complete()
        command, parsed = command_of(given)
        code = command.run(parsed)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our output has ended.
        code = Code.PARTIAL
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - every error is one line
        code = ending(error, urls_in(given))
    _discard_unwritable()
    return int(code)


def _open_streams() -> None:
    """Open the standard streams that are closed, and make the output UTF-8 in every locale, as JSON is.

    If a stream is closed, the first file or connection would have its number, and what is printed would go there.

    Raises:
        OSError: standard output was closed.
    """
    has_output = sys.stdout is not None
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - for the process
    if not has_output:
        raise OSError(errno.EBADF, "standard output is closed")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")


def _discard_unwritable() -> None:
    """Discard what cannot be written any more: Python would report it at its end, with another exit code."""
    from contextlib import suppress

    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with suppress(OSError, ValueError):  # it is not a file
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
