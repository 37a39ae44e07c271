"""The same as `gs-ssd view`."""

import sys

from gs_ssd.cli import main

if __name__ == "__main__":
    sys.exit(main(["view", *sys.argv[1:]]))
