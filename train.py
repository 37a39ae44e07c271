"""A sentence becomes a splat: `python train.py --config configs/quickstart.yaml --prompt "a red mushroom"`.

Thin on purpose: the command line lives in `gs_ssd/commands/train.py`, the loop in `gs_ssd/trainer.py`.
"""

from gs_ssd.commands.train import main

if __name__ == "__main__":
    raise SystemExit(main())
