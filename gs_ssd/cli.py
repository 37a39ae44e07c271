"""Floor 7: the `gs-ssd` command. Finds the subcommand's module, parses, calls, turns mistakes into exit code 2."""

import argparse
import importlib
import re
import sys
from collections.abc import Sequence
from typing import NamedTuple

import gs_ssd
from gs_ssd.errors import UserError


class Command(NamedTuple):
    """Where a subcommand lives and what it is for; its module is imported only when it is called."""

    module: str
    summary: str


COMMANDS: dict[str, Command] = {
    "train": Command("gs_ssd.commands.train", "optimize a splat for a sentence"),
    "export": Command("gs_ssd.commands.export", "write a splat for a viewer or an engine"),
    "view": Command("gs_ssd.commands.view", "open splats in the browser"),
    "gallery": Command("gs_ssd.commands.gallery", "one page over many runs"),
    "bench": Command("gs_ssd.lab.commands.bench", "measure the assets: recognised, crisp, clean, cost"),
    "reproduce": Command("gs_ssd.lab.commands.reproduce", "rerun the paper's experiments"),
    "check-model": Command("gs_ssd.commands.check_model", "check a diffusion model before a long run"),
    "doctor": Command("gs_ssd.commands.doctor", "what is installed, what will run and why"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Returns:
        The exit code: 0 done, 2 a mistake that the user can mend (printed in one sentence), 130 interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments and arguments[0] in COMMANDS:
            return _call(COMMANDS[arguments[0]], f"gs-ssd {arguments[0]}", arguments[1:])
        _overview().parse_args(arguments)  # prints help or what is wrong, and exits
        return 2
    except UserError as error:
        print(f"gs-ssd: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.filename is None:  # not about a file of the user's
            raise
        print(f"gs-ssd: {error.filename}: {error.strerror}; choose another, or mend its permissions", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("gs-ssd: interrupted", file=sys.stderr)
        return 130


def _call(command: Command, prog: str, arguments: Sequence[str]) -> int:
    """Parse for one subcommand and run it; the modules of the others are not imported."""
    module = importlib.import_module(command.module)
    parser = argparse.ArgumentParser(
        prog=prog, description=command.summary, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    module.add_arguments(parser)
    # Intermixed: options may stand between the key=value words of `train`.
    return module.run(parser.parse_intermixed_args(_join_axes(arguments)))


def _join_axes(arguments: Sequence[str]) -> list[str]:
    """`--up -y` as `--up=-y`: argparse takes a word that begins with a minus for an option."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] == "--up" and re.fullmatch("[+-][xyz]", argument):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _overview() -> argparse.ArgumentParser:
    """Names every subcommand, for `gs-ssd --help` and for words that are none."""
    parser = argparse.ArgumentParser(prog="gs-ssd", description="A sentence becomes a 3D Gaussian splat.")
    parser.add_argument("--version", action="version", version=f"gs-ssd {gs_ssd.__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        subparsers.add_parser(name, help=command.summary)
    return parser


if __name__ == "__main__":
    sys.exit(main())
