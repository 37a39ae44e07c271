"""The `gs-ssd` command.

Finds the subcommand's module, parses, calls, turns mistakes into exit code 2."""

import argparse
import contextlib
import difflib
import errno
import importlib
import io
import itertools
import os
import re
import signal
import sys
from collections.abc import Sequence
from typing import NamedTuple

import gs_ssd
from gs_ssd import interrupts
from gs_ssd.errors import UserError


class Command(NamedTuple):
    """Where a subcommand lives and what it is for; its module is imported only when it is
    called."""

    module: str
    summary: str


COMMANDS: dict[str, Command] = {
    "studio": Command("gs_ssd.commands.studio", "make, watch and export splats in the browser"),
    "serve": Command("gs_ssd.commands.serve", "a queue of runs over HTTP"),
    "train": Command("gs_ssd.commands.train", "optimize a splat for a sentence"),
    "batch": Command("gs_ssd.commands.batch", "many prompts, on all cores or a Ray cluster"),
    "export": Command("gs_ssd.commands.export", "write a splat for a viewer or an engine"),
    "view": Command("gs_ssd.commands.view", "open splats in the browser"),
    "inspect": Command(
        "gs_ssd.commands.inspect", "what is in a splat file, and what it costs and loses elsewhere"
    ),
    "gallery": Command("gs_ssd.commands.gallery", "one page over many runs"),
    "bench": Command(
        "gs_ssd.lab.commands.bench", "train a suite of prompts and measure the assets"
    ),
    "reproduce": Command("gs_ssd.lab.commands.reproduce", "rerun the paper's experiments"),
    "sides": Command(
        "gs_ssd.lab.commands.sides",
        "measure whether a prior draws the side that it is asked for",
    ),
    "variety": Command(
        "gs_ssd.lab.commands.variety",
        "measure how much a prior's pictures of one sentence differ",
    ),
    "check-model": Command(
        "gs_ssd.commands.check_model", "check a diffusion model before a long run"
    ),
    "doctor": Command("gs_ssd.commands.doctor", "what is installed, what will run and why"),
}


MAY_BE_EMPTY = ("--prompt", "--title", "--token")
"""Options whose own check says what is wrong, or that may be nothing."""


LISTS = ("--seeds", "--estimators")
"""Options of several words. A setting may follow."""
SETTING = re.compile(r"[a-zA-Z_][\w.]*=")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Returns:
        The exit code: 0 done, 2 a mistake that the user can fix (printed in one sentence), 128 + n
        ended by signal n (130 Ctrl-C, 141 nobody reads the output any more, 143 SIGTERM).
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    _let_waiting_threads_sleep()
    _open_standard_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(
            errors="backslashreplace"
        )  # names of files may hold bytes that are no text
    try:
        with interrupts.raised():
            code = _run(arguments)
            sys.stdout.flush()
            return code
    except UserError as error:
        return _say(str(error), 2)
    except BrokenPipeError:
        _let_output_go()
        return 128 + signal.SIGPIPE
    except OSError as error:
        if error.filename is not None:
            return _say(
                f"{error.filename}: {error.strerror}; choose another, or fix its permissions", 2
            )
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE):
            raise  # not about a file of the user's
        _let_output_go()
        return _say(f"{error.strerror}; free some room", 2)
    except KeyboardInterrupt:
        return _say("interrupted", 130)
    except interrupts.Terminated as stop:
        return _say(str(stop), 128 + stop.signal_number)


def _say(sentence: str, code: int) -> int:
    print(f"gs-ssd: {sentence}", file=sys.stderr)
    return code


def _let_waiting_threads_sleep() -> None:
    """OpenMP's threads spin while they wait for each other, unless they are told before torch is
    imported.

    On a machine that does other work, too, they take the time that the one they wait for needs: two
    threads beside another training took four times as long as one.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _open_standard_streams() -> None:
    """Streams that whoever started this process has closed lead to the null device.

    Else the next file that is opened, a result, gets such a number, and what a library says on its
    standard error is written into it.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
        if getattr(sys, name) is None:
            stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115 -- it stays
            setattr(sys, name, stream)


def _let_output_go() -> None:
    """What could not be written is not tried again at exit, where it would be an error without a
    sentence."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def _run(arguments: Sequence[str]) -> int:
    _refuse_a_folder_that_is_gone()
    if arguments and arguments[0] in COMMANDS:
        _refuse_empty(arguments[1:])
        return _call(COMMANDS[arguments[0]], f"gs-ssd {arguments[0]}", arguments[1:])
    if arguments and not arguments[0].startswith("-"):
        near = difflib.get_close_matches(arguments[0], COMMANDS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"there is no command {arguments[0]!r}; {hint}`gs-ssd --help` lists them")
    _overview().parse_args(arguments)  # prints help or what is wrong, and exits
    return 2


def _refuse_a_folder_that_is_gone() -> None:
    """Libraries that look where they are loaded from die there without a reason."""
    try:
        os.getcwd()
    except FileNotFoundError:
        raise UserError("the folder that this was called in is gone; go to another one") from None


def _refuse_empty(arguments: Sequence[str]) -> None:
    """An empty word where a file or folder should be named would be taken for the present folder:
    `--out "$OUT"`, where nothing has set OUT, would leave a run among the user's own files."""
    for before, word in itertools.pairwise(["", *arguments]):
        name, sign, value = word.partition("=")
        if word == "" and before not in MAY_BE_EMPTY:
            whose = before if before.startswith("-") else "an argument"
            raise UserError(f"{whose} is empty; give it a value, or leave it out")
        if name.startswith("--") and sign and not value and name not in MAY_BE_EMPTY:
            raise UserError(f"{name} is empty; give it a value, or leave it out")


def _call(command: Command, prog: str, arguments: Sequence[str]) -> int:
    """Parse for one subcommand and run it; the modules of the others are not imported."""
    module = importlib.import_module(command.module)
    parser = argparse.ArgumentParser(
        prog=prog, description=command.summary, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    module.add_arguments(parser)
    # Intermixed: options may stand between the key=value words of `train`.
    words = _settings_before_lists(_join_axes(arguments))
    return module.run(parser.parse_intermixed_args(words))


def _join_axes(arguments: Sequence[str]) -> list[str]:
    """`--up -y` as `--up=-y`: argparse takes a word that begins with a minus for an option."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] == "--up" and re.fullmatch("[+-][xyz]", argument):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _settings_before_lists(arguments: Sequence[str]) -> list[str]:
    """`--seeds 0 1 num_steps=400` as `num_steps=400 --seeds 0 1`: argparse takes all words up to
    the next option for the list."""
    words: list[str] = []
    start: int | None = None  # of the list that the word at hand belongs to
    for place, argument in enumerate(arguments):
        if argument == "--":
            return [*words, *arguments[place:]]
        if argument.startswith("-"):
            start = len(words) if argument in LISTS else None
        if start is not None and SETTING.match(argument):
            words.insert(start, argument)
            start += 1
        else:
            words.append(argument)
    return words


def _overview() -> argparse.ArgumentParser:
    """Names every subcommand, for `gs-ssd --help` and for words that are none."""
    parser = argparse.ArgumentParser(
        prog="gs-ssd", description="A sentence becomes a 3D Gaussian splat."
    )
    parser.add_argument("--version", action="version", version=f"gs-ssd {gs_ssd.__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        subparsers.add_parser(name, help=command.summary)
    return parser


if __name__ == "__main__":
    sys.exit(main())
