// The tasks over tiles, forward and backward: lists of splats in, images and gradient rows out.
// SPDX-License-Identifier: Apache-2.0

// Calls body(x, y, lane) for the lanes of a block that lie in the image, coordinates relative to the tile.
template <class F>
DGR_INLINE void each_lane(const Tile& tile, int block, const F& body) {
    for (int i = 0; i < LANES; ++i) {
        const int x = block % ACROSS * BLOCK_W + i % BLOCK_W, y = block / ACROSS * BLOCK_H + i / BLOCK_W;
        if (x < tile.width && y < tile.height) body(x, y, i);
    }
}

DGR_INLINE bool whole_block(const Tile& tile, int block) {
    return block % ACROSS * BLOCK_W + BLOCK_W <= tile.width && block / ACROSS * BLOCK_H + BLOCK_H <= tile.height;
}

// One tile's window into an image plane.
struct Window {
    float* at;
    int64_t stride;
    Window(const float* plane, const dgr_problem& p, const Tile& tile)
        : at(plane ? const_cast<float*>(plane) + static_cast<int64_t>(tile.y) * p.width + tile.x : nullptr), stride(p.width) {}

    DGR_INLINE void put(const Tile& tile, int block, vf value) const {
        float lanes[LANES];
        store(lanes, value);
        if (whole_block(tile, block)) {
            float* corner = at + block / ACROSS * BLOCK_H * stride + block % ACROSS * BLOCK_W;
            for (int h = 0; h < BLOCK_H; ++h) __builtin_memcpy(corner + h * stride, lanes + h * BLOCK_W, 4 * BLOCK_W);
        } else {
            each_lane(tile, block, [&](int x, int y, int i) { at[y * stride + x] = lanes[i]; });
        }
    }
    DGR_INLINE vf get(const Tile& tile, int block) const {
        float lanes[LANES] = {};
        if (at == nullptr) return vf{};
        if (whole_block(tile, block)) {
            const float* corner = at + block / ACROSS * BLOCK_H * stride + block % ACROSS * BLOCK_W;
            for (int h = 0; h < BLOCK_H; ++h) __builtin_memcpy(lanes + h * BLOCK_W, corner + h * stride, 4 * BLOCK_W);
        } else {
            each_lane(tile, block, [&](int x, int y, int i) { lanes[i] = at[y * stride + x]; });
        }
        return load<vf>(lanes);
    }
};

DGR_INLINE bool in_image(const Tile& tile, int block) {
    return block % ACROSS * BLOCK_W < tile.width && block / ACROSS * BLOCK_H < tile.height;
}

static void render_tile(const dgr_problem& p, const Geometry& geometry, const Binning& bins, const dgr_images& images,
                        int64_t index) {
    const Tile tile(p, bins, index);
    const Record* records = geometry.records + static_cast<int64_t>(tile.view) * p.gaussians;
    uint64_t* entries = bins.entries + tile.begin;
    sort_entries(entries, bins.spare + tile.begin, tile.count);

    Canvas canvas[BLOCKS];
    float stopped[BLOCKS * LANES] = {};  // final transmittance of the pixels that finished
    Mask alive = {};
    for (int b = 0; b < BLOCKS; ++b) {
        canvas[b] = Canvas{};
        if (!in_image(tile, b)) continue;
        alive.word[b / 64] |= 1ull << (b % 64);
        each_lane(tile, b, [&](int, int, int i) { canvas[b].transmittance[i] = 1.0f; });
    }

    uint32_t* finish_at = bins.finish_at + index * TILE * TILE;
    uint16_t* finish_who = bins.finish_who + index * TILE * TILE;
    uint32_t finished_count = 0;
    int64_t entry = 0;
    for (; entry < tile.count; ++entry) {
        uint64_t remaining = 0;
        for (int w = 0; w < WORDS; ++w) remaining |= alive.word[w];
        if (remaining == 0) break;
        if (entry + 4 < tile.count) __builtin_prefetch(records + static_cast<uint32_t>(entries[entry + 4]));
        const Record& r = records[static_cast<uint32_t>(entries[entry])];
        const Brush brush(r, tile);
        Mask mask = touched_blocks(r, tile);
        uint64_t* kept = bins.masks + (tile.begin + entry) * 2;
        for (int w = 0; w < WORDS; ++w) {
            uint64_t left = mask.word[w] & alive.word[w];
            kept[w] = left;
            for (; left; left &= left - 1) {
                const int block = 64 * w + __builtin_ctzll(left);
                Canvas& c = canvas[block];
                blend(brush, r, block_x(block), block_y(block), c, [&](vi finished, vf before) {
                    float* last = stopped + block * LANES;
                    store(last, load<vf>(last) + keep(finished, before));
                    for (uint32_t who = lane_bits(finished); who; who &= who - 1) {
                        finish_at[finished_count] = static_cast<uint32_t>(entry);
                        finish_who[finished_count++] = static_cast<uint16_t>(block * LANES + __builtin_ctz(who));
                    }
                    if (!any(~finished & (before > 0.0f))) alive.word[w] &= ~(1ull << (block % 64));
                });
            }
        }
    }
    bins.drawn[index] = static_cast<uint32_t>(entry);
    bins.finished[index] = finished_count;

    const int64_t plane = static_cast<int64_t>(p.width) * p.height;
    const float* background = p.background + 3 * tile.view;
    const Window red(images.rgb + 3 * tile.view * plane, p, tile), green(images.rgb + (3 * tile.view + 1) * plane, p, tile),
        blue(images.rgb + (3 * tile.view + 2) * plane, p, tile), depth(images.depth + tile.view * plane, p, tile),
        left(images.transmittance + tile.view * plane, p, tile),
        alpha(images.alpha ? images.alpha + tile.view * plane : nullptr, p, tile);
    for (int b = 0; b < BLOCKS; ++b) {
        if (!in_image(tile, b)) continue;
        const Canvas& c = canvas[b];
        const vf t = c.transmittance + load<vf>(stopped + b * LANES);
        red.put(tile, b, c.red + t * background[0]);
        green.put(tile, b, c.green + t * background[1]);
        blue.put(tile, b, c.blue + t * background[2]);
        depth.put(tile, b, c.depth);
        left.put(tile, b, t);
        if (alpha.at) alpha.put(tile, b, 1.0f - t);
    }
}

// Gradient row of an entry of this tile.
DGR_INLINE float* row_of(const Record& r, const Tile& tile, float* rows) {
    const int x0 = r.x0 / TILE, y0 = r.y0 / TILE, across = r.x1 / TILE - x0 + 1;
    return rows + static_cast<int64_t>(r.slot + (tile.y / TILE - y0) * across + (tile.x / TILE - x0)) * ROW;
}

// Incoming gradients, final transmittance, and what lies behind the last splat.
DGR_INLINE void load_trace(const dgr_problem& p, const Tile& tile, const float* transmittance, const dgr_image_grads& grads,
                           Trace* trace) {
    const int64_t plane = static_cast<int64_t>(p.width) * p.height, v = tile.view;
    const float* rgb = grads.rgb;
    const Window red(rgb ? rgb + 3 * v * plane : nullptr, p, tile), green(rgb ? rgb + (3 * v + 1) * plane : nullptr, p, tile),
        blue(rgb ? rgb + (3 * v + 2) * plane : nullptr, p, tile),
        depth(grads.depth ? grads.depth + v * plane : nullptr, p, tile),
        alpha(grads.alpha ? grads.alpha + v * plane : nullptr, p, tile),
        left(grads.transmittance ? grads.transmittance + v * plane : nullptr, p, tile),
        final_left(transmittance + v * plane, p, tile);
    const float* background = p.background + 3 * v;
    for (int b = 0; b < BLOCKS; ++b) {
        if (!in_image(tile, b)) {
            trace[b] = Trace{};
            continue;
        }
        Trace& t = trace[b];
        t.red = red.get(tile, b), t.green = green.get(tile, b), t.blue = blue.get(tile, b), t.depth = depth.get(tile, b);
        t.transmittance = final_left.get(tile, b);
        const vf behind = left.get(tile, b) - alpha.get(tile, b) +
                          (t.red * background[0] + t.green * background[1] + t.blue * background[2]);
        t.suffix = t.transmittance * behind;
    }
}

DGR_INLINE void store_row(float* row, const Moments& moments) {
    f8 low[8];
    for (int i = 0; i < 8; ++i) low[i] = fold(moments.m[i]);
    store(row, sums(low));
    row[8] = sum(fold(moments.m[8])), row[9] = sum(fold(moments.m[9]));
}

static void backward_tile(const dgr_problem& p, const Geometry& geometry, const Binning& bins, const float* transmittance,
                          const dgr_image_grads& grads, float* rows, int64_t index) {
    const Tile tile(p, bins, index);
    if (tile.count == 0) return;
    const Record* records = geometry.records + static_cast<int64_t>(tile.view) * p.gaussians;
    const uint64_t* entries = bins.entries + tile.begin;
    const int64_t drawn = bins.drawn[index];
    for (int64_t entry = drawn; entry < tile.count; ++entry) {
        __builtin_memset(row_of(records[static_cast<uint32_t>(entries[entry])], tile, rows), 0, ROW * sizeof(float));
    }

    Trace trace[BLOCKS];
    load_trace(p, tile, transmittance, grads, trace);
    // Pixels that finished early wait until the walk passes the entry that finished them.
    const uint32_t* finish_at = bins.finish_at + index * TILE * TILE;
    const uint16_t* finish_who = bins.finish_who + index * TILE * TILE;
    float waiting_left[BLOCKS * LANES], waiting_suffix[BLOCKS * LANES];
    uint32_t waiting = bins.finished[index];
    for (uint32_t i = 0; i < waiting; ++i) {
        const int block = finish_who[i] / LANES, lane = finish_who[i] % LANES;
        waiting_left[finish_who[i]] = trace[block].transmittance[lane];
        waiting_suffix[finish_who[i]] = trace[block].suffix[lane];
        trace[block].transmittance[lane] = trace[block].suffix[lane] = 0.0f;
    }

    const float gate = p.flags & DGR_CLAMP_PASSES_GRADIENT ? __builtin_inff() : MAX_ALPHA;
    for (int64_t entry = drawn - 1; entry >= 0; --entry) {
        while (waiting > 0 && finish_at[waiting - 1] > entry) {
            const int who = finish_who[--waiting];
            trace[who / LANES].transmittance[who % LANES] = waiting_left[who];
            trace[who / LANES].suffix[who % LANES] = waiting_suffix[who];
        }
        if (entry >= 4) __builtin_prefetch(records + static_cast<uint32_t>(entries[entry - 4]));
        const Record& r = records[static_cast<uint32_t>(entries[entry])];
        const Brush brush(r, tile);
        const uint64_t* kept = bins.masks + (tile.begin + entry) * 2;
        Moments moments = {};
        for (int w = 0; w < WORDS; ++w) {
            for (uint64_t left = kept[w]; left; left &= left - 1) {
                const int block = 64 * w + __builtin_ctzll(left);
                blend_backward(brush, r, gate, block_x(block), block_y(block), trace[block], moments);
            }
        }
        store_row(row_of(r, tile, rows), moments);
    }
}
