"""The same as `gs-ssd export`."""

import sys

from gs_ssd.cli import main

if __name__ == "__main__":
    sys.exit(main(["export", *sys.argv[1:]]))
