// The tasks over tiles: sort, blend front to back, and the way back.
// SPDX-License-Identifier: Apache-2.0
//
// A tile of 32x32 pixels is cut into blocks of 4 x (LANES / 4) pixels, one vector each. Per splat,
// the blocks that its level set touches form a bit mask (of the spans of all pixel rows at once);
// the mask is cut by the blocks that still have unfinished pixels, and what is left is walked bit
// by bit. The backward pass walks the same masks in reverse.

constexpr int LANES = DGR_LANES;
using vf = Lanes<LANES>::Float;
using vi = Lanes<LANES>::Int;
constexpr int BLOCK_W = 4, BLOCK_H = LANES / 4;
constexpr int ACROSS = TILE / BLOCK_W, DOWN = TILE / BLOCK_H, BLOCKS = ACROSS * DOWN,
              WORDS = BLOCKS / 64;

struct Mask {
    uint64_t word[WORDS];
};
DGR_INLINE bool none(const Mask& mask) {
    uint64_t all = 0;
    for (int w = 0; w < WORDS; ++w) all |= mask.word[w];
    return all == 0;
}

// Pixel coordinates of the lanes of block columns and block rows, relative to the tile. Computed by
// the compiler: code that ran when the library is loaded would need this instruction set on every
// machine.
struct Coordinates {
    alignas(64) float x[ACROSS][LANES], y[DOWN][LANES];
    constexpr Coordinates() : x(), y() {
        for (int b = 0; b < ACROSS; ++b) {
            for (int i = 0; i < LANES; ++i) x[b][i] = static_cast<float>(b * BLOCK_W + i % BLOCK_W);
        }
        for (int b = 0; b < DOWN; ++b) {
            for (int i = 0; i < LANES; ++i) y[b][i] = static_cast<float>(b * BLOCK_H + i / BLOCK_W);
        }
    }
};
static constexpr Coordinates coordinates;
DGR_INLINE vf block_x(int block) { return load<vf>(coordinates.x[block % ACROSS]); }
DGR_INLINE vf block_y(int block) { return load<vf>(coordinates.y[block / ACROSS]); }

DGR_INLINE int larger(int a, int b) { return a > b ? a : b; }
DGR_INLINE int smaller(int a, int b) { return a < b ? a : b; }

struct Tile {
    int view, x, y, width, height;  // pixels; width, height: the part inside the image
    int64_t index, begin, count;    // of the tile, and of its entries

    Tile(int width, int height)
        : view(0), x(0), y(0), width(width), height(height), index(0), begin(0), count(0) {}
    Tile(const dgr_problem& p, const Binning& bins, int64_t tile) : index(tile) {
        const Grid grid(p);
        view = static_cast<int>(tile / grid.tiles());
        const int t = static_cast<int>(tile % grid.tiles());
        x = t % grid.columns * TILE, y = t / grid.columns * TILE;
        width = p.width - x < TILE ? p.width - x : TILE;
        height = p.height - y < TILE ? p.height - y : TILE;
        begin = bins.begins[tile], count = bins.begins[tile + 1] - begin;
    }
};

// Sorts a short list.
DGR_INLINE void insert_entries(uint64_t* entries, int64_t count) {
    for (int64_t i = 1; i < count; ++i) {
        const uint64_t e = entries[i];
        int64_t j = i;
        for (; j > 0 && entries[j - 1] > e; --j) entries[j] = entries[j - 1];
        entries[j] = e;
    }
}

// Stable radix sort by the lower `width` bits of the upper halves, less `base`.
static void radix_sort(uint64_t* entries, uint64_t* spare, int64_t count, uint32_t base,
                       int width) {
    uint64_t *from = entries, *to = spare;
    for (int shift = 0; shift < width; shift += 8) {
        uint32_t starts[257] = {};
        for (int64_t i = 0; i < count; ++i)
            ++starts[((((from[i] >> 32) - base) >> shift) & 255) + 1];
        for (int d = 0; d < 256; ++d) starts[d + 1] += starts[d];
        for (int64_t i = 0; i < count; ++i)
            to[starts[(((from[i] >> 32) - base) >> shift) & 255]++] = from[i];
        uint64_t* other = from;
        from = to, to = other;
    }
    if (from != entries) __builtin_memcpy(entries, from, count * sizeof(uint64_t));
}

// A tile's list in order of depth, equal depths in the order of the Gaussians (every entry is
// different). Dealt into buckets by the upper bits of the depth at once; a bucket is sorted when
// the walk reaches it, for many tiles are finished before their end.
class Sorter {
  public:
    Sorter(const uint64_t* unsorted, uint64_t* entries, int64_t count) : entries_(entries) {
        if (count == 0) return;
        uint64_t low = ~0ull, high = 0;
        for (int64_t i = 0; i < count; ++i) {
            low = unsorted[i] < low ? unsorted[i] : low;
            high = unsorted[i] > high ? unsorted[i] : high;
        }
        base_ = low >> 32;
        const uint32_t range = (high >> 32) - base_;
        width_ = range ? 32 - __builtin_clz(range) : 0;
        const int wanted = smaller(BITS, 63 - __builtin_clzll(static_cast<uint64_t>(count)));
        const int shift = larger(width_ - wanted, 0), buckets = (range >> shift) + 1;
        __builtin_memset(ends_, 0, (buckets + 1) * sizeof(uint32_t));
        for (int64_t i = 0; i < count; ++i) ++ends_[(((unsorted[i] >> 32) - base_) >> shift) + 1];
        for (int b = 1; b < buckets; ++b) ends_[b + 1] += ends_[b];
        for (int64_t i = 0; i < count; ++i)
            entries[ends_[((unsorted[i] >> 32) - base_) >> shift]++] = unsorted[i];
    }
    // Puts the entries before `end`, and perhaps some more, into their places. `spare`: room for as
    // many as were not there yet.
    DGR_INLINE void reach(int64_t end, uint64_t* spare) {
        while (sorted_ < end) {
            const int64_t count = ends_[bucket_++] - sorted_;
            if (count <= 64) insert_entries(entries_ + sorted_, count);
            else radix_sort(entries_ + sorted_, spare, count, base_, width_);
            sorted_ += count;
        }
    }

  private:
    static constexpr int BITS = 11;
    uint64_t* entries_;
    int64_t sorted_ = 0;
    uint32_t base_ = 0;
    int width_ = 0, bucket_ = 0;
    uint32_t ends_[(1 << BITS) + 1];  // of each bucket
};

// Blocks of the tile that hold a pixel of the splat's level set: for eight block rows at once, the
// union of the spans of their pixel rows, as bytes (bit i: block column i).
DGR_INLINE Mask touched_blocks(const Record& r, const Tile& tile) {
    const int first = larger(r.y0 - tile.y, 0) / BLOCK_H,
              last = smaller(r.y1 - tile.y, TILE - 1) / BLOCK_H;
    const int left = larger(r.x0 - tile.x, 0) / BLOCK_W,
              right = smaller(r.x1 - tile.x, TILE - 1) / BLOCK_W;
    const f8 counting = {0, 1, 2, 3, 4, 5, 6, 7};
    const float x = r.x - tile.x, y = r.y - tile.y;
    const float reach = 1.001f * r.reach + 1e-6f,
                narrowing = 1.001f * r.narrowing;  // makes good the rough root
    Mask mask = {};
    for (int row = first; row <= last; row += 8) {
        f8 low = splat8(1e9f), high = splat8(-1e9f);
        for (int h = 0; h < BLOCK_H; ++h) {
            const f8 dy = (counting + static_cast<float>(row)) * BLOCK_H + (h - y);
            const f8 half = rough_root(reach - narrowing * (dy * dy)), middle = r.slope * dy;
            low = minimum(middle - half, low);  // NaN: the row misses the level set
            high = maximum(middle + half, high);
        }
        // A hundredth of a pixel of slack; ceil and floor by truncation of positive numbers.
        low = clamp8(low + (x - 0.01f), 4.0f * left - 0.5f, 40.0f);
        high = clamp8(high + (x + 0.01f), -0.5f, 4.0f * right + 3.5f);
        const i8 begin = whole(low + 1.0f) >> 2, end = (whole(high + 1.0f) - 1) >> 2;
        const i8 two = i8{} + 2, one = i8{} + 1;
        const i8 row_bits = (end >= begin) & ((two << (end & 7)) - (one << (begin & 7)));
        const b8 bytes = __builtin_convertvector(row_bits, b8);
        uint64_t eight;
        __builtin_memcpy(&eight, &bytes, 8);
        const int rows = last - row + 1;
        if (rows < 8) eight &= (1ull << (8 * rows)) - 1;
        const int at = 8 * row, word = at / 64, shift = at % 64;
        mask.word[word] |= eight << shift;
        if (WORDS > 1 && shift && word + 1 < WORDS) mask.word[word + 1] |= eight >> (64 - shift);
    }
    return mask;
}

// What a splat is to the pixels of one tile.
struct Brush {
    float x, y, a, b, c, l;
    Brush(const Record& r, const Tile& tile)
        : x(r.x - tile.x), y(r.y - tile.y), a(r.a), b(r.b), c(r.c), l(r.l) {}
};

// opacity * exp(power), and (u, v): the conic times the offset from the centre, times -LOG2E / 2.
// One body for both passes: they must agree to the last bit.
DGR_INLINE vf falloff(const Brush& s, vf px, vf py, vf& u, vf& v, vi& visible) {
    const vf dx = px - s.x, dy = py - s.y;
    u = s.a * dx + s.b * dy;
    v = s.b * dx + s.c * dy;
    const vf exponent = u * dx + (v * dy + s.l);
    visible = exponent >= LOG2_MIN_ALPHA;
    return exp2(exponent);
}

struct Canvas {
    vf transmittance, red, green, blue, depth;  // transmittance 0: finished, or outside the image
};

// One splat on one block. When lanes finish, on_finish(finished lanes, the transmittance they had)
// is called and the splat is not added to them.
template <class F>
DGR_INLINE void blend(const Brush& s, const Record& r, vf px, vf py, Canvas& c,
                      const F& on_finish) {
    vf u, v;
    vi visible;
    const vf raw = falloff(s, px, py, u, v, visible);
    const vf alpha = keep(visible, minimum(raw, vf{} + MAX_ALPHA));
    vf weight = c.transmittance * alpha;
    vf rest = c.transmittance - weight;
    if (__builtin_expect(any_within(rest, MIN_TRANSMITTANCE), 0)) {
        const vi finished = (rest < MIN_TRANSMITTANCE) & (rest > 0.0f);
        on_finish(finished, c.transmittance);
        weight = keep(~finished, weight), rest = keep(~finished, rest);
    }
    c.transmittance = rest;
    c.red += weight * r.red;
    c.green += weight * r.green;
    c.blue += weight * r.blue;
    c.depth += weight * r.z;
}

// What the way back keeps of a block's pixels.
struct Trace {
    vf transmittance;            // after the splats not yet taken back; 0: not reached yet
    vf suffix;                   // sum over those splats of weight * value, background included
    vf red, green, blue, depth;  // incoming gradients
};

// Sums over pixels: s, s u, s v, s u u, s u v, s v v with s = dL/dpower; and dL/d(r, g, b, z). With
// u, v in place of offsets the gradients of mean and covariance are these sums, up to a factor:
// nothing cancels between them for thin splats.
struct Moments {
    vf m[ROW];
};

DGR_INLINE void blend_backward(const Brush& s, const Record& r, float gate, vf px, vf py, Trace& t,
                               Moments& sums) {
    vf u, v;
    vi visible;
    const vf unmasked = falloff(s, px, py, u, v, visible);
    const vf raw = keep(visible, unmasked);
    const vf alpha = minimum(raw, vf{} + MAX_ALPHA);
    const vf inverse = reciprocal(1.0f - alpha);
    t.transmittance *= inverse;
    const vf weight = t.transmittance * alpha;
    const vf value = t.red * r.red + t.green * r.green + (t.blue * r.blue + t.depth * r.z);
    const vf d_alpha = t.transmittance * value - t.suffix * inverse;
    t.suffix += weight * value;
    const vf d_power = keep(raw < gate, raw * d_alpha);
    const vf along_u = d_power * u, along_v = d_power * v;
    sums.m[0] += d_power;
    sums.m[1] += along_u;
    sums.m[2] += along_v;
    sums.m[3] += along_u * u;
    sums.m[4] += along_u * v;
    sums.m[5] += along_v * v;
    sums.m[6] += weight * t.red;
    sums.m[7] += weight * t.green;
    sums.m[8] += weight * t.blue;
    sums.m[9] += weight * t.depth;
}
