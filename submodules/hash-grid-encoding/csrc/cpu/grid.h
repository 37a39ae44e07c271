// The hash grid: reads with weights, and what the points' own gradients take.
// SPDX-License-Identifier: Apache-2.0

// The derivative of the trilinear mix of the corners' pairs, where the fractions change by v.
HGE_INLINE Pairs mixed_along(const Pairs (&at)[8], const vf (&f)[3], const vf (&v)[3]) {
    const vf x[2] = {1.0f - f[0], f[0]}, y[2] = {1.0f - f[1], f[1]}, z[2] = {1.0f - f[2], f[2]};
    const vf dx[2] = {-v[0], v[0]}, dy[2] = {-v[1], v[1]}, dz[2] = {-v[2], v[2]};
    Pairs sum = {};
    for (int c = 0; c < 8; ++c) {
        const int a = c & 1, b = c >> 1 & 1, d = c >> 2;
        const vf w = dx[a] * (y[b] * z[d]) + x[a] * (dy[b] * z[d] + y[b] * dz[d]);
        sum.low += shuffle<TwiceLow>(w, w) * at[c].low;
        sum.high += shuffle<TwiceHigh>(w, w) * at[c].high;
    }
    return sum;
}

// Where the rows of LANES points lie and what weighs them; a row is two neighbours in x. One load
// each where they lie side by side, two where they are hashed: faster than the gathers of x86,
// which take every corner for itself.
template <bool HASHED>
struct Reads {
    vf x;  // fraction
    alignas(64) float y[LANES], z[LANES];
    Rows<HASHED> rows;
    alignas(64) float sums[LANES][4];  // [point][neighbour, feature]

    HGE_INLINE void prepare(const Level& level, const float* points, int64_t n, int64_t i,
                            int64_t count) {
        Place place;
        place.find<HASHED>(level, points, n, i, count);
        x = place.f[0], store(y, place.f[1]), store(z, place.f[2]);
        rows.prepare(level, place);
    }

    HGE_INLINE void perform(const float* table) {
        for (int p = 0; p < LANES; ++p) {
            const auto of = rows.of(p);
            const v4 near = load_row(table, of, 0), far = load_row(table, of, 2);
            const v4 a = near + y[p] * (load_row(table, of, 1) - near);
            const v4 b = far + y[p] * (load_row(table, of, 3) - far);
            const v4 sum = a + z[p] * (b - a);
            std::memcpy(sums[p], &sum, sizeof sum);
        }
    }

    // The two features of each point.
    HGE_INLINE void finish(vf (&out)[2]) const {
        vf part[4];
        for (int q = 0; q < 4; ++q) part[q] = load(sums[q * LANES / 4]);
        const vf a[2] = {shuffle<Even>(part[0], part[1]), shuffle<Even>(part[2], part[3])};
        const vf b[2] = {shuffle<Odd>(part[0], part[1]), shuffle<Odd>(part[2], part[3])};
        out[0] = mix(shuffle<Even>(a[0], a[1]), shuffle<Odd>(a[0], a[1]), x);
        out[1] = mix(shuffle<Even>(b[0], b[1]), shuffle<Odd>(b[0], b[1]), x);
    }
};

// Their derivative along a direction, by gathers.
struct Slopes {
    Place place;
    vf v[3];
    Pairs sum;

    template <bool HASHED>
    HGE_INLINE void prepare(const Level& level, const float* points, const float* along, int64_t n,
                            int64_t i, int64_t count) {
        place.find<HASHED>(level, points, n, i, count);
        speeds(level, points, along, n, i, count, v);
    }

    HGE_INLINE void perform(const float* table) {
        Pairs at[8];
        for (int c = 0; c < 8; ++c) {
            at[c] = gather(table, place.index[c]);
            settle(at[c]);
        }
        sum = mixed_along(at, place.f, v);
    }

    HGE_INLINE void finish(vf (&out)[2]) const {
        out[0] = shuffle<Even>(sum.low, sum.high), out[1] = shuffle<Odd>(sum.low, sum.high);
    }
};

// The entries of the next points are worked out before those of the present ones are loaded:
// nothing stands between one vector's loads and the next's, and as many as can wait for memory
// together. What the loads came to is taken up one vector later: a wide load of what was just
// stored in parts waits until all of it has left the store buffer.
template <bool ALONG, bool HASHED>
static void encode_level(const Level& of, const float* table, const float* points,
                         const float* along, int64_t n, int64_t begin, int64_t end,
                         float* features) {
    if (begin >= end) return;
    const Level level = of;
    std::conditional_t<ALONG, Slopes, Reads<HASHED>> reads[3];
    auto *last = &reads[0], *now = &reads[1], *next = &reads[2];
    const auto prepare = [&](int64_t i) HGE_ALWAYS {
        if (i >= end) return;
        if constexpr (ALONG) {
            next->template prepare<HASHED>(level, points, along, n, i, end - i);
        } else {
            next->prepare(level, points, n, i, end - i);
        }
    };
    const auto finish = [&](int64_t i) HGE_ALWAYS {
        vf out[2];
        last->finish(out);
        store(features + i, out[0], end - i);
        store(features + n + i, out[1], end - i);
    };
    const auto advance = [&]() HGE_ALWAYS {
        auto* free = last;
        last = now, now = next, next = free;
    };
    prepare(begin), advance();
    int64_t i = begin;
    for (; i < end; i += LANES) {
        prepare(i + LANES);
        now->perform(table);
        if (i > begin) finish(i - LANES);
        advance();
    }
    finish(i - LANES);
}

static void encode(const hge_grid& grid, int level, const float* tables, const float* points,
                   const float* along, int64_t n, int64_t begin, int64_t end, float* features) {
    const Level of(grid, level);
    const auto run = along ? (of.hashed ? encode_level<true, true> : encode_level<true, false>)
                           : (of.hashed ? encode_level<false, true> : encode_level<false, false>);
    run(of, tables + 2 * grid.offsets[level], points, along, n, begin, end,
        features + 2 * level * n);
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
            Place place;
            if (level.hashed) {
                place.find<true>(level, points, n, i, count);
            } else {
                place.find<false>(level, points, n, i, count);
            }
            vf s[8], d[3], scale[3];
            scales(level, points, n, i, count, scale);
            corner_values(place, table, load(in + i, count), load(in + n + i, count), s);
            if (along) {
                vf v[3], t[3];
                for (int k = 0; k < 3; ++k) {
                    v[k] = load(along + k * n + i, count) * scale[k];
                    t[k] = twist(s, k, place.f);
                }
                for (int k = 0; k < 3; ++k) {
                    const int a = (k + 1) % 3, b = (k + 2) % 3;
                    d[k] = (t[b] * v[a] + t[a] * v[b]) * scale[k];
                }
            } else {
                for (int k = 0; k < 3; ++k) d[k] = slope(s, k, place.f) * scale[k];
            }
            for (int k = 0; k < 3; ++k) {
                float* out = grad_points + k * n + i;
                store(out, load(out, count) + d[k], count);
            }
        }
    }
}
