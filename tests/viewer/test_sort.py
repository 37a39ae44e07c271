"""The page's depth sort, run as it stands under Node: far to near, a permutation, and quick for
half a million."""

import json
import shutil
import subprocess
from importlib import resources

import numpy as np
import pytest

pytestmark = pytest.mark.readers

RUN = """
const fs = require("fs");
const [source, folder, rounds] = process.argv.slice(1);
eval(fs.readFileSync(source, "utf8") + "globalThis.sorter = depthSorter;");
const read = (name) => new Float32Array(new Uint8Array(fs.readFileSync(folder + name)).buffer);
const positions = read("/positions"), direction = [...read("/direction")];
let order = new Uint32Array(positions.length / 3), milliseconds = [];
const scope = { postMessage: (message) => { order = message.order; } };
sorter(scope);
scope.onmessage({ data: { positions } });
for (let i = 0; i < +rounds; i++) {
  const before = process.cpuUsage();
  scope.onmessage({ data: { direction, order } });
  const used = process.cpuUsage(before);
  milliseconds.push((used.user + used.system) / 1000);
}
fs.writeFileSync(folder + "/order", new Uint8Array(order.buffer));
console.log(JSON.stringify(milliseconds));
"""


@pytest.fixture
def sort(tmp_path):
    """Sort [N,3] along a direction; the order [N], and processor milliseconds a sort."""
    if shutil.which("node") is None:
        pytest.skip("Node is not installed (`make readers`)")

    def run(
        positions: np.ndarray, direction: list[float], rounds: int = 1
    ) -> tuple[np.ndarray, list[float]]:
        positions.astype("<f4").tofile(tmp_path / "positions")
        np.array(direction, dtype="<f4").tofile(tmp_path / "direction")
        source = resources.files("gs_ssd.viewer") / "sort.js"
        words = ["node", "-e", RUN, str(source), str(tmp_path), str(rounds)]
        done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=120)
        return np.fromfile(tmp_path / "order", dtype="<u4"), json.loads(done.stdout)

    return run


@pytest.mark.parametrize("count", [1, 2, 1000, 70_000])
def test_far_to_near_to_within_a_bin(sort, count):
    positions = np.random.default_rng(count).normal(size=(count, 3))
    order, _ = sort(positions, [0.6, -0.48, 0.64])
    assert np.array_equal(np.sort(order), np.arange(count))
    depths = positions @ [0.6, -0.48, 0.64]
    bin_width = np.ptp(depths) / (2**16 - 1)
    assert (np.diff(depths[order]) < 1.01 * bin_width + 1e-6).all()


def test_ties_keep_their_order(sort):
    order, _ = sort(np.zeros((100, 3)), [0.0, 0.0, 1.0])
    assert np.array_equal(order, np.arange(100))


def test_half_a_million_sort_within_a_few_frames(sort):
    positions = np.random.default_rng(0).normal(size=(500_000, 3))
    _, milliseconds = sort(positions, [0.6, -0.48, 0.64], rounds=20)
    print(f"500 000 splats: {np.median(milliseconds[5:]):.1f} ms of processor time a sort")
    assert (
        np.median(milliseconds[5:]) < 100
    )  # beside the drawing, in a worker: the picture does not wait for it
