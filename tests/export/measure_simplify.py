"""What merging costs to the eye, beside dropping as many splats: PSNR over sixteen views of 256
pixels.

python tests/export/measure_simplify.py out/a-red-mushroom --picture simplify.webp
"""

import argparse
import time
from pathlib import Path

import numpy as np
from PIL import Image

from gs_ssd.export.clean import Cleaning, clean
from gs_ssd.export.formats import read_splats
from gs_ssd.export.simplify import simplify
from gs_ssd.export.views import pictures, psnr
from gs_ssd.viewer.runs import source_of


def main() -> None:
    """A line a share, and on request a picture: the whole, a quarter merged, a quarter kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("--picture", type=Path)
    args = parser.parse_args()
    splats = read_splats(source_of(args.source)[0])
    wanted = pictures(splats)
    for share in (0.5, 0.25, 0.1):
        count = round(share * len(splats))
        start = time.process_time()
        merged = simplify(splats, count)
        seconds = time.process_time() - start
        dropped, _ = clean(splats, Cleaning(max_splats=count))
        rows = [wanted, *(pictures(kept, like=splats) for kept in (merged, dropped))]
        merging, dropping = (f"{psnr(row, wanted):.1f} dB" for row in rows[1:])
        values = f"merged {merging}, dropped {dropping}"
        print(
            f"{share:4.0%} = {count} of {len(splats)} splats: {values}; {seconds:.1f} s of one core"
        )
        if args.picture and share == 0.25:
            sheet = np.concatenate([np.concatenate(row[[1, 5, 8, 12]], axis=1) for row in rows])
            Image.fromarray((sheet * 255).astype(np.uint8)).save(args.picture, quality=85)


if __name__ == "__main__":
    main()
