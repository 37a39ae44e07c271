"""Floor 7: the `gs-ssd` command. Finds the subcommand's module, parses, calls, turns mistakes into exit code 2."""

import argparse
import importlib
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
    "bench": Command("gs_ssd.commands.bench", "measure the assets: recognised, crisp, clean, cost"),
    "reproduce": Command("gs_ssd.commands.reproduce", "rerun the paper's experiments"),
    "check-model": Command("gs_ssd.commands.check_model", "check a diffusion model before a long run"),
    "doctor": Command("gs_ssd.commands.doctor", "what is installed, what will run and why"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Returns:
        The exit code: 0 done, 2 a mistake that the user can mend (printed in one sentence), 130 interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = next((argument for argument in arguments if argument in COMMANDS), None)
    try:
        args = _parser(name).parse_args(arguments)
        return importlib.import_module(COMMANDS[args.command].module).run(args)
    except UserError as error:
        print(f"gs-ssd: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("gs-ssd: interrupted", file=sys.stderr)
        return 130


def _parser(name: str | None) -> argparse.ArgumentParser:
    """The whole parser, with the arguments of the one subcommand that is called (the others are not imported)."""
    parser = argparse.ArgumentParser(prog="gs-ssd", description="A sentence becomes a 3D Gaussian splat.")
    parser.add_argument("--version", action="version", version=f"gs-ssd {gs_ssd.__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for key, command in COMMANDS.items():
        subparser = subparsers.add_parser(
            key, help=command.summary, description=command.summary, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if key == name:
            importlib.import_module(command.module).add_arguments(subparser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
