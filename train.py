"""A sentence becomes a splat.

    python train.py --config configs/quickstart.yaml --prompt "a red mushroom"

Thin on purpose: this is `gs-ssd train`, whose arguments lie in `gs_ssd/commands/train.py` and whose
loop in `gs_ssd/trainer.py`.
"""

import sys

from gs_ssd.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
