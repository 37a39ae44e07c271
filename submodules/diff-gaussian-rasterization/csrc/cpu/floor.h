// The floor under the blending: its two bodies over one tile that stays in the first-level cache,
// every lane at work, no lists, no masks, no reductions. The benchmark holds the whole rasterizer
// against it. SPDX-License-Identifier: Apache-2.0

static Record floor_record() {
    Record r = {};
    r.x = r.y = 15.5f;
    r.a = r.c = -1e-3f, r.b = 1e-4f, r.l = -3.0f;  // alpha 1/8 at the centre, 1/14 in the corners
    r.red = 0.1f, r.green = 0.2f, r.blue = 0.3f, r.z = 2.0f;
    return r;
}

// Both return the number of pixel lanes that they went through.
static double floor_forward(int repeats) {
    const Record r = floor_record();
    const Tile tile(TILE, TILE);
    Canvas canvas[BLOCKS];
    float left = 0.0f;
    for (int n = 0; n < repeats; ++n) {
        for (auto& c : canvas) c = {vf{} + 1.0f, vf{}, vf{}, vf{}, vf{}};
        for (int i = 0; i < 32; ++i) {
            const Brush brush(r, tile);
            for (int b = 0; b < BLOCKS; ++b) {
                blend(brush, r, block_x(b), block_y(b), canvas[b], [&](vi, vf t) { left += t[0]; });
            }
            __asm__ volatile("" ::: "memory");
        }
    }
    return static_cast<double>(repeats) * 32 * BLOCKS * LANES + 0.0 * static_cast<double>(left);
}

static double floor_backward(int repeats) {
    const Record r = floor_record();
    const Tile tile(TILE, TILE);
    Trace trace[BLOCKS];
    float kept = 0.0f;
    for (int n = 0; n < repeats; ++n) {
        for (auto& t : trace)
            t = {vf{} + 0.01f, vf{}, vf{} + 0.1f, vf{} + 0.2f, vf{} + 0.3f, vf{} + 0.1f};
        for (int i = 0; i < 32; ++i) {
            const Brush brush(r, tile);
            Moments moments = {};
            for (int b = 0; b < BLOCKS; ++b) {
                blend_backward(brush, r, MAX_ALPHA, block_x(b), block_y(b), trace[b], moments);
            }
            for (const vf& m : moments.m) kept += m[0];
            __asm__ volatile("" ::: "memory");
        }
    }
    return static_cast<double>(repeats) * 32 * BLOCKS * LANES + 0.0 * static_cast<double>(kept);
}
