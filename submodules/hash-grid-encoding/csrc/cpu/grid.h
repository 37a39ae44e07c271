// The hash grid: gathers with weights, and their transposes. SPDX-License-Identifier: Apache-2.0

struct Level {
    float resolution;
    int32_t last;  // cell
    uint32_t side, mask;
    bool hashed;

    Level(const hge_grid& grid, int level) {
        const int32_t r = grid.resolutions[level];
        const uint64_t entries =
            static_cast<uint64_t>(grid.offsets[level + 1] - grid.offsets[level]);
        resolution = static_cast<float>(r), last = r - 1, side = static_cast<uint32_t>(r) + 1;
        hashed = static_cast<uint64_t>(side) * side * side > entries;
        mask = static_cast<uint32_t>(entries) - 1;
    }
};

// Where LANES points lie in a level. Corner c is that with x + (c & 1), y + (c >> 1 & 1), z + (c >>
// 2).
struct Place {
    vf f[3];      // fraction
    vf scale[3];  // derivative of the position by the point: the resolution, or 0 outside of the
                  // box
    vu index[8];

    HGE_INLINE Place(const Level& level, const float* points, int64_t n, int64_t i, int64_t count) {
        vu cell[3];
        for (int k = 0; k < 3; ++k) {
            const vf x = load(points + k * n + i, count);
            const vf inside = minimum(maximum(x, vf{}), splat(1.0f));
            const vi whole =
                minimum(__builtin_convertvector(inside * level.resolution, vi), vi{} + level.last);
            f[k] = inside * level.resolution - __builtin_convertvector(whole, vf);
            scale[k] = keep((x >= 0.0f) & (x <= 1.0f), splat(level.resolution));
            cell[k] = (vu)whole;
        }
        vu y[2], z[2];
        if (level.hashed) {
            y[0] = cell[1] * 2654435761u, y[1] = y[0] + 2654435761u;
            z[0] = cell[2] * 805459861u, z[1] = z[0] + 805459861u;
            for (int c = 0; c < 8; ++c)
                index[c] = ((cell[0] + (c & 1)) ^ y[c >> 1 & 1] ^ z[c >> 2]) & level.mask;
        } else {
            const vu first = cell[0] + level.side * (cell[1] + level.side * cell[2]);
            for (int c = 0; c < 8; ++c) {
                index[c] = first + (c & 1) + level.side * ((c >> 1 & 1) + level.side * (c >> 2));
            }
        }
    }

    // The trilinear weights of the corners.
    HGE_INLINE void weigh(vf (&w)[8]) const {
        const vf x[2] = {1.0f - f[0], f[0]}, y[2] = {1.0f - f[1], f[1]}, z[2] = {1.0f - f[2], f[2]};
        for (int c = 0; c < 8; ++c) w[c] = x[c & 1] * (y[c >> 1 & 1] * z[c >> 2]);
    }

    // Their derivative in a direction.
    HGE_INLINE void weigh(vf (&w)[8], const float* along, int64_t n, int64_t i,
                          int64_t count) const {
        const vf x[2] = {1.0f - f[0], f[0]}, y[2] = {1.0f - f[1], f[1]}, z[2] = {1.0f - f[2], f[2]};
        vf v[3];
        for (int k = 0; k < 3; ++k) v[k] = load(along + k * n + i, count) * scale[k];
        const vf dx[2] = {-v[0], v[0]}, dy[2] = {-v[1], v[1]}, dz[2] = {-v[2], v[2]};
        for (int c = 0; c < 8; ++c) {
            const int a = c & 1, b = c >> 1 & 1, d = c >> 2;
            w[c] = dx[a] * (y[b] * z[d]) + x[a] * (dy[b] * z[d] + y[b] * dz[d]);
        }
    }
};

template <bool ALONG>
static void encode_level(const Level& level, const float* table, const float* points,
                         const float* along, int64_t n, int64_t begin, int64_t end,
                         float* features) {
    for (int64_t i = begin; i < end; i += LANES) {
        const int64_t count = end - i;
        const Place place(level, points, n, i, count);
        Pairs sum = {};
        if constexpr (ALONG) {
            vf w[8];
            place.weigh(w, along, n, i, count);
            for (int c = 0; c < 8; ++c) {
                const Pairs pairs = gather(table, place.index[c]);
                sum.low += shuffle<TwiceLow>(w[c], w[c]) * pairs.low;
                sum.high += shuffle<TwiceHigh>(w[c], w[c]) * pairs.high;
            }
        } else {
            Pairs at[8], f[3];
            for (int c = 0; c < 8; ++c) at[c] = gather(table, place.index[c]);
            for (int k = 0; k < 3; ++k) {
                f[k] = {shuffle<TwiceLow>(place.f[k], place.f[k]),
                        shuffle<TwiceHigh>(place.f[k], place.f[k])};
                for (int c = 0; c < 8; c += 2 << k) {
                    const Pairs& other = at[c + (1 << k)];
                    at[c] = {mix(at[c].low, other.low, f[k].low),
                             mix(at[c].high, other.high, f[k].high)};
                }
            }
            sum = at[0];
        }
        store(features + i, shuffle<Even>(sum.low, sum.high), count);
        store(features + n + i, shuffle<Odd>(sum.low, sum.high), count);
    }
}

static void encode(const hge_grid& grid, int level, const float* tables, const float* points,
                   const float* along, int64_t n, int64_t begin, int64_t end, float* features) {
    const float* table = tables + 2 * grid.offsets[level];
    float* out = features + 2 * level * n;
    if (along) {
        encode_level<true>(Level(grid, level), table, points, along, n, begin, end, out);
    } else {
        encode_level<false>(Level(grid, level), table, points, along, n, begin, end, out);
    }
}

// Entries are added to in the order of the points and, within one, of the corners. A level without
// a hash has the two corners along x side by side.
template <bool ALONG, bool HASHED>
struct Additions {
    alignas(64) float pairs[8][2 * LANES];  // [corner][point][feature]; without a hash [y,
                                            // z][point][x][feature]
    alignas(64) uint32_t index[8][LANES];

    // Works out those of LANES points, and asks for the entries of a hash, which are far from each
    // other.
    HGE_INLINE void prepare(const Level& level, const float* points, const float* along,
                            const float* grads, int64_t n, int64_t i, const float* table) {
        const int64_t count = n - i;
        const Place place(level, points, n, i, count);
        vf w[8];
        if constexpr (ALONG) {
            place.weigh(w, along, n, i, count);
        } else {
            place.weigh(w);
        }
        const vf a = load(grads + i, count), b = load(grads + n + i, count);
        for (int c = 0; c < 8; c += 2) {
            vf low[2], high[2];
            for (int x = 0; x < 2; ++x) {
                const vf wa = w[c + x] * a, wb = w[c + x] * b;
                low[x] = shuffle<ZipLow>(wa, wb), high[x] = shuffle<ZipHigh>(wa, wb);
                std::memcpy(index[c + x], &place.index[c + x], sizeof place.index[c]);
            }
            if constexpr (HASHED) {
                for (int x = 0; x < 2; ++x)
                    store(pairs[c + x], low[x]), store(pairs[c + x] + LANES, high[x]);
                for (int p = 0; p < LANES; ++p)
                    __builtin_prefetch(table + 2 * static_cast<size_t>(index[c][p]), 1);
            } else {
                store(pairs[c], shuffle<ZipPairsLow>(low[0], low[1]));
                store(pairs[c] + LANES, shuffle<ZipPairsHigh>(low[0], low[1]));
                store(pairs[c + 1], shuffle<ZipPairsLow>(high[0], high[1]));
                store(pairs[c + 1] + LANES, shuffle<ZipPairsHigh>(high[0], high[1]));
            }
        }
    }

    HGE_INLINE void perform(float* table, int points) const {
        for (int p = 0; p < points; ++p) {
            if constexpr (HASHED) {
                for (int c = 0; c < 8; ++c) add_pair(table, index[c][p], pairs[c] + 2 * p);
            } else {
                for (int c = 0; c < 8; c += 2) add_two_pairs(table, index[c][p], pairs[c] + 4 * p);
            }
        }
    }
};

template <bool ALONG, bool HASHED>
static void scatter_level(const Level& level, const float* points, const float* along,
                          const float* grads, int64_t n, float* table) {
    if (n == 0) return;
    Additions<ALONG, HASHED> additions[2];
    additions[0].prepare(level, points, along, grads, n, 0, table);
    int64_t i = 0;
    for (int turn = 0; i + LANES < n; i += LANES, turn ^= 1) {
        additions[turn ^ 1].prepare(level, points, along, grads, n, i + LANES, table);
        additions[turn].perform(table, LANES);
    }
    additions[i / LANES % 2].perform(table, static_cast<int>(n - i));
}

template <bool ALONG>
static void scatter_any(const Level& level, const float* points, const float* along,
                        const float* grads, int64_t n, float* table) {
    if (level.hashed) return scatter_level<ALONG, true>(level, points, along, grads, n, table);
    scatter_level<ALONG, false>(level, points, along, grads, n, table);
}

static void scatter(const hge_grid& grid, int level, const float* points, const float* along,
                    const float* grads, int64_t n, float* grad_tables) {
    float* table = grad_tables + 2 * grid.offsets[level];
    const float* in = grads + 2 * level * n;
    if (along) {
        scatter_any<true>(Level(grid, level), points, along, in, n, table);
    } else {
        scatter_any<false>(Level(grid, level), points, along, in, n, table);
    }
}

// s at the corners: the features' product with their gradients.
HGE_INLINE void corner_values(const Place& place, const float* table, vf a, vf b, vf (&s)[8]) {
    const vf low = shuffle<ZipLow>(a, b), high = shuffle<ZipHigh>(a, b);
    for (int c = 0; c < 8; ++c) {
        const Pairs pairs = gather(table, place.index[c]);
        const vf p = low * pairs.low, q = high * pairs.high;
        s[c] = shuffle<Even>(p, q) + shuffle<Odd>(p, q);
    }
}

// A mix of the four differences of s along axis k. Corners lie at bit k.
HGE_INLINE vf slope(const vf (&s)[8], int k, const vf (&f)[3]) {
    const int a = (k + 1) % 3, b = (k + 2) % 3;
    const auto difference = [&](int i, int j) {
        return s[1 << k | i << a | j << b] - s[i << a | j << b];
    };
    const vf near = difference(0, 0) * (1.0f - f[a]) + difference(1, 0) * f[a];
    const vf far = difference(0, 1) * (1.0f - f[a]) + difference(1, 1) * f[a];
    return near * (1.0f - f[b]) + far * f[b];
}

// The mixed second difference of s along the two axes other than k.
HGE_INLINE vf twist(const vf (&s)[8], int k, const vf (&f)[3]) {
    const int a = (k + 1) % 3, b = (k + 2) % 3;
    const auto difference = [&](int i) {
        const int at = i << k;
        return (s[at | 1 << a | 1 << b] - s[at | 1 << a]) - (s[at | 1 << b] - s[at]);
    };
    return difference(0) * (1.0f - f[k]) + difference(1) * f[k];
}

static void pull(const hge_grid& grid, const float* tables, const float* points, const float* along,
                 const float* grads, int64_t n, int64_t begin, int64_t end, float* grad_points) {
    for (int k = 0; k < 3; ++k)
        std::memset(grad_points + k * n + begin, 0, sizeof(float) * (end - begin));
    for (int l = 0; l < grid.levels_on; ++l) {
        const Level level(grid, l);
        const float* table = tables + 2 * grid.offsets[l];
        const float* in = grads + 2 * l * n;
        for (int64_t i = begin; i < end; i += LANES) {
            const int64_t count = end - i;
            const Place place(level, points, n, i, count);
            vf s[8], d[3];
            corner_values(place, table, load(in + i, count), load(in + n + i, count), s);
            if (along) {
                vf v[3], t[3];
                for (int k = 0; k < 3; ++k) {
                    v[k] = load(along + k * n + i, count) * place.scale[k];
                    t[k] = twist(s, k, place.f);
                }
                for (int k = 0; k < 3; ++k) {
                    const int a = (k + 1) % 3, b = (k + 2) % 3;
                    d[k] = (t[b] * v[a] + t[a] * v[b]) * place.scale[k];
                }
            } else {
                for (int k = 0; k < 3; ++k) d[k] = slope(s, k, place.f) * place.scale[k];
            }
            for (int k = 0; k < 3; ++k) {
                float* out = grad_points + k * n + i;
                store(out, load(out, count) + d[k], count);
            }
        }
    }
}
