// The tasks over tiles, forward and backward: lists of splats in, images and gradient rows out.
// SPDX-License-Identifier: Apache-2.0

// Calls body(x, y, lane) for the lanes of a block that lie in the image, coordinates relative to
// the tile.
template <class F>
DGR_INLINE void each_lane(const Tile& tile, int block, const F& body) {
    for (int i = 0; i < LANES; ++i) {
        const int x = block % ACROSS * BLOCK_W + i % BLOCK_W,
                  y = block / ACROSS * BLOCK_H + i / BLOCK_W;
        if (x < tile.width && y < tile.height) body(x, y, i);
    }
}

DGR_INLINE bool whole_block(const Tile& tile, int block) {
    return block % ACROSS * BLOCK_W + BLOCK_W <= tile.width &&
           block / ACROSS * BLOCK_H + BLOCK_H <= tile.height;
}

// Calls copy(image index, lanes, count) for all pieces of rows, up to BLOCK_W pixels each, that one
// field (a vector) of an array of blocks shares with an image plane.
template <class Block, class Copy>
DGR_INLINE void each_segment(const dgr_problem& p, const Tile& tile, Block* blocks,
                             vf Block::* field, int64_t plane, const Copy& copy) {
    const int64_t origin = (plane * p.height + tile.y) * p.width + tile.x;
    const int64_t stride = p.width;
    const bool whole = tile.width == TILE && tile.height == TILE;
    for (int b = 0; b < BLOCKS; ++b) {
        float* lanes = reinterpret_cast<float*>(&(blocks[b].*field));
        const int x = b % ACROSS * BLOCK_W, y = b / ACROSS * BLOCK_H;
        const int64_t at = origin + y * stride + x;
        if (__builtin_expect(whole, 1)) {
            for (int h = 0; h < BLOCK_H; ++h) copy(at + h * stride, lanes + h * BLOCK_W, BLOCK_W);
            continue;
        }
        const int columns = smaller(tile.width - x, BLOCK_W),
                  rows = smaller(tile.height - y, BLOCK_H);
        for (int h = 0; h < rows && columns > 0; ++h)
            copy(at + h * stride, lanes + h * BLOCK_W, columns);
    }
}

template <class Block>
DGR_INLINE void put_plane(const dgr_problem& p, const Tile& tile, Block* blocks, vf Block::* field,
                          float* image, int64_t plane) {
    each_segment(p, tile, blocks, field, plane, [image](int64_t at, const float* lanes, int count) {
        if (count == BLOCK_W) __builtin_memcpy(image + at, lanes, 4 * BLOCK_W);
        else
            for (int i = 0; i < count; ++i) image[at + i] = lanes[i];
    });
}

template <class Block>
DGR_INLINE void get_plane(const dgr_problem& p, const Tile& tile, Block* blocks, vf Block::* field,
                          const float* image, int64_t plane) {
    if (image == nullptr) return;
    each_segment(p, tile, blocks, field, plane, [image](int64_t at, float* lanes, int count) {
        if (count == BLOCK_W) __builtin_memcpy(lanes, image + at, 4 * BLOCK_W);
        else
            for (int i = 0; i < count; ++i) lanes[i] = image[at + i];
    });
}

// Brings one tile's part of some image planes towards the cache, a row at a time between other
// work: rows of a tile lie too far apart for the hardware to guess them.
class Ahead {
  public:
    Ahead(const dgr_problem& p, const Tile& tile)
        : plane_(static_cast<int64_t>(p.width) * p.height),
          stride_(p.width),
          at_(static_cast<int64_t>(tile.y) * p.width + tile.x),
          rows_(tile.height),
          last_(tile.width - 1) {}
    void add(const float* image, int64_t first, int count) {
        if (image == nullptr) return;
        for (int i = 0; i < count; ++i) bases_[planes_++] = image + (first + i) * plane_ + at_;
    }
    DGR_INLINE void step() {
        if (row_ >= rows_) return;
        const int64_t offset = stride_ * row_++;
        for (int i = 0; i < planes_; ++i) {
            __builtin_prefetch(bases_[i] + offset);
            __builtin_prefetch(bases_[i] + offset + last_);
        }
    }
    void finish() {
        while (row_ < rows_) step();
    }

  private:
    const float* bases_[7];
    int64_t plane_, stride_, at_;
    int planes_ = 0, row_ = 0, rows_, last_;
};

DGR_INLINE bool in_image(const Tile& tile, int block) {
    return block % ACROSS * BLOCK_W < tile.width && block / ACROSS * BLOCK_H < tile.height;
}

// Number of the gradient row of a Gaussian in this tile; `slot` is its first.
DGR_INLINE uint32_t row_of(const Record& r, uint32_t slot, const Tile& tile) {
    const int x0 = r.x0 / TILE, y0 = r.y0 / TILE, across = r.x1 / TILE - x0 + 1;
    return slot + static_cast<uint32_t>((tile.y / TILE - y0) * across + (tile.x / TILE - x0));
}

// Appends entries [begin, end) to the first `kept` of the list, with the blocks that each may
// change: those that change none are dropped, and depths, needed no more, give way to gradient
// rows. Ahead of the drawing, since a mask is a chain of dependent steps, but many run side by
// side. Returns how many are kept.
DGR_INLINE int64_t keep_entries(const Tile& tile, const Record* records, const uint32_t* slots,
                                const Mask& alive, int64_t begin, int64_t end, int64_t kept,
                                uint64_t* entries, uint64_t* masks) {
    for (int64_t entry = begin; entry < end; ++entry) {
        if (entry + 12 < tile.count) {
            __builtin_prefetch(records + static_cast<uint32_t>(entries[entry + 12]));
            __builtin_prefetch(slots + static_cast<uint32_t>(entries[entry + 12]));
        }
        const auto gaussian = static_cast<uint32_t>(entries[entry]);
        const Record& r = records[gaussian];
        const Mask mask = touched_blocks(r, tile);
        uint64_t touched = 0;
        for (int w = 0; w < WORDS; ++w)
            touched |= masks[2 * kept + w] = mask.word[w] & alive.word[w];
        entries[kept] = static_cast<uint64_t>(row_of(r, slots[gaussian], tile)) << 32 | gaussian;
        kept += touched != 0;
    }
    return kept;
}

static void render_tile(const dgr_problem& p, const Geometry& geometry, const Binning& bins,
                        const dgr_images& images, int64_t index) {
    const Tile tile(p, bins, index);
    const Record* records = geometry.records + static_cast<int64_t>(tile.view) * p.gaussians;
    const uint32_t* slots = geometry.slots + static_cast<int64_t>(tile.view) * p.gaussians;
    uint64_t* entries = bins.entries + tile.begin;
    uint64_t* masks = bins.masks + tile.begin * 2;
    Sorter sorter(masks, entries, tile.count);

    Canvas canvas[BLOCKS];
    float stopped[BLOCKS * LANES] = {};  // final transmittance of the pixels that finished
    Mask alive = {};
    for (int b = 0; b < BLOCKS; ++b) {
        canvas[b] = Canvas{};
        if (!in_image(tile, b)) continue;
        alive.word[b / 64] |= 1ull << (b % 64);
        if (whole_block(tile, b)) canvas[b].transmittance = vf{} + 1.0f;
        else each_lane(tile, b, [&](int, int, int i) { canvas[b].transmittance[i] = 1.0f; });
    }

    uint32_t* finish_at = bins.finish_at + index * TILE * TILE;
    uint16_t* finish_who = bins.finish_who + index * TILE * TILE;
    uint32_t finished_count = 0;
    Ahead outputs(p, tile);
    outputs.add(images.rgb, 3 * tile.view, 3);
    outputs.add(images.depth, tile.view, 1), outputs.add(images.transmittance, tile.view, 1);
    outputs.add(images.alpha, tile.view, 1);
    int64_t kept = 0;
    for (int64_t begin = 0, entry = 0; begin < tile.count && !none(alive);) {
        const int64_t end = begin + 32 < tile.count ? begin + 32 : tile.count;
        sorter.reach(end, masks + 2 * begin);
        kept = keep_entries(tile, records, slots, alive, begin, end, kept, entries, masks);
        begin = end;
        for (; entry < kept; ++entry) {
            outputs.step();
            const Record& r = records[static_cast<uint32_t>(entries[entry])];
            const Brush brush(r, tile);
            for (int w = 0; w < WORDS; ++w) {
                // Blocks may have been finished since the mask was made.
                for (uint64_t left = masks[2 * entry + w] &= alive.word[w]; left;
                     left &= left - 1) {
                    const int block = 64 * w + __builtin_ctzll(left);
                    Canvas& c = canvas[block];
                    blend(brush, r, block_x(block), block_y(block), c, [&](vi finished, vf before) {
                        float* last = stopped + block * LANES;
                        store(last, load<vf>(last) + keep(finished, before));
                        for (uint32_t who = lane_bits(finished); who; who &= who - 1) {
                            finish_at[finished_count] = static_cast<uint32_t>(entry);
                            finish_who[finished_count++] =
                                static_cast<uint16_t>(block * LANES + __builtin_ctz(who));
                        }
                        if (!any(~finished & (before > 0.0f)))
                            alive.word[w] &= ~(1ull << (block % 64));
                    });
                }
            }
        }
    }
    bins.drawn[index] = static_cast<uint32_t>(kept);
    bins.finished[index] = finished_count;

    const float* background = p.background + 3 * tile.view;
    for (int b = 0; b < BLOCKS; ++b) {
        Canvas& c = canvas[b];
        c.transmittance += load<vf>(stopped + b * LANES);
        c.red += c.transmittance * background[0];
        c.green += c.transmittance * background[1];
        c.blue += c.transmittance * background[2];
    }
    put_plane(p, tile, canvas, &Canvas::red, images.rgb, 3 * tile.view);
    put_plane(p, tile, canvas, &Canvas::green, images.rgb, 3 * tile.view + 1);
    put_plane(p, tile, canvas, &Canvas::blue, images.rgb, 3 * tile.view + 2);
    put_plane(p, tile, canvas, &Canvas::depth, images.depth, tile.view);
    put_plane(p, tile, canvas, &Canvas::transmittance, images.transmittance, tile.view);
    if (images.alpha == nullptr) return;
    for (Canvas& c : canvas) c.transmittance = 1.0f - c.transmittance;
    put_plane(p, tile, canvas, &Canvas::transmittance, images.alpha, tile.view);
}

// Incoming gradients, final transmittance, and what lies behind the last splat.
DGR_INLINE void load_trace(const dgr_problem& p, const Tile& tile, const float* transmittance,
                           const dgr_image_grads& grads, Trace* trace) {
    // Until they are combined, `transmittance` and `suffix` hold the incoming gradients of
    // transmittance and alpha.
    const int v = tile.view;
    for (int b = 0; b < BLOCKS; ++b) trace[b] = Trace{};
    get_plane(p, tile, trace, &Trace::red, grads.rgb, 3 * v);
    get_plane(p, tile, trace, &Trace::green, grads.rgb, 3 * v + 1);
    get_plane(p, tile, trace, &Trace::blue, grads.rgb, 3 * v + 2);
    get_plane(p, tile, trace, &Trace::depth, grads.depth, v);
    get_plane(p, tile, trace, &Trace::transmittance, grads.transmittance, v);
    get_plane(p, tile, trace, &Trace::suffix, grads.alpha, v);
    const float* background = p.background + 3 * v;
    for (int b = 0; b < BLOCKS; ++b) {
        Trace& t = trace[b];
        t.suffix = t.transmittance - t.suffix +
                   (t.red * background[0] + t.green * background[1] + t.blue * background[2]);
        t.transmittance = vf{};
    }
    get_plane(p, tile, trace, &Trace::transmittance, transmittance, v);
    for (int b = 0; b < BLOCKS; ++b) trace[b].suffix *= trace[b].transmittance;
}

DGR_INLINE void store_row(float* row, const Moments& moments) {
    f8 low[8];
    for (int i = 0; i < 8; ++i) low[i] = fold(moments.m[i]);
    store(row, sums(low));
    const f8 pair = two_sums(fold(moments.m[8]), fold(moments.m[9]));
    row[8] = pair[0], row[9] = pair[1];
}

static void backward_tile(const dgr_problem& p, const Geometry& geometry, const Binning& bins,
                          const float* transmittance, const dgr_image_grads& grads, float* rows,
                          int64_t index) {
    const Tile tile(p, bins, index);
    if (tile.count == 0) return;
    const Record* records = geometry.records + static_cast<int64_t>(tile.view) * p.gaussians;
    const uint64_t* entries = bins.entries + tile.begin;
    const int64_t drawn = bins.drawn[index];
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
    const bool is_last = index + 1 == static_cast<int64_t>(p.views) * Grid(p).tiles();
    const Tile next(p, bins, is_last ? index : index + 1);
    Ahead inputs(p, next);
    inputs.add(grads.rgb, 3 * next.view, 3);
    inputs.add(grads.depth, next.view, 1), inputs.add(grads.alpha, next.view, 1);
    inputs.add(grads.transmittance, next.view, 1), inputs.add(transmittance, next.view, 1);
    for (int64_t entry = drawn - 1; entry >= 0; --entry) {
        inputs.step();
        while (waiting > 0 && finish_at[waiting - 1] > entry) {
            const int who = finish_who[--waiting];
            trace[who / LANES].transmittance[who % LANES] = waiting_left[who];
            trace[who / LANES].suffix[who % LANES] = waiting_suffix[who];
        }
        if (entry >= 4) {
            // The row too: a store that waits for its cache line holds up all later ones.
            const uint64_t soon = entries[entry - 4];
            __builtin_prefetch(records + static_cast<uint32_t>(soon));
            float* row = rows + static_cast<int64_t>(soon >> 32) * ROW;
            __builtin_prefetch(row, 1), __builtin_prefetch(row + ROW - 1, 1);
        }
        const uint64_t* kept = bins.masks + (tile.begin + entry) * 2;
        const Record& r = records[static_cast<uint32_t>(entries[entry])];
        const Brush brush(r, tile);
        Moments moments = {};
        for (int w = 0; w < WORDS; ++w) {
            for (uint64_t left = kept[w]; left; left &= left - 1) {
                const int block = 64 * w + __builtin_ctzll(left);
                blend_backward(brush, r, gate, block_x(block), block_y(block), trace[block],
                               moments);
            }
        }
        store_row(rows + static_cast<int64_t>(entries[entry] >> 32) * ROW, moments);
    }
    inputs.finish();
}
