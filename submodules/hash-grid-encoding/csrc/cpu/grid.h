// The hash grid: reads with weights, and what the points' own gradients take.
// SPDX-License-Identifier: Apache-2.0

// Rows of four floats [LANES][4] -> four vectors of LANES.
HGE_INLINE void columns(const float (&rows)[LANES][4], vf (&out)[4]) {
    vf part[4];
    for (int q = 0; q < 4; ++q) part[q] = load(rows[q * LANES / 4]);
    const vf even[2] = {shuffle<Even>(part[0], part[1]), shuffle<Even>(part[2], part[3])};
    const vf odd[2] = {shuffle<Odd>(part[0], part[1]), shuffle<Odd>(part[2], part[3])};
    out[0] = shuffle<Even>(even[0], even[1]), out[2] = shuffle<Odd>(even[0], even[1]);
    out[1] = shuffle<Even>(odd[0], odd[1]), out[3] = shuffle<Odd>(odd[0], odd[1]);
}

// Where the rows of LANES points lie and what weighs them: reads of their mix, or with ALONG of its
// derivative where the fractions change by v. A row is two neighbours in x, one load where they lie
// side by side and two where they are hashed: faster than the gathers of x86, which take every
// corner for itself.
template <bool ALONG, bool HASHED>
struct Reads {
    vf x, v[3];  // the fraction along x, and how fast all three change
    alignas(64) float y[LANES], z[LANES], vy[LANES], vz[LANES];
    Rows<HASHED> rows;
    alignas(64) float sums[LANES][4], slopes[LANES][4];  // [point][neighbour, feature]

    HGE_INLINE void prepare(const Level& level, const float* points, const float* along, int64_t n,
                            int64_t i, int64_t count) {
        Place place;
        place.find<HASHED>(level, points, n, i, count);
        x = place.f[0], store(y, place.f[1]), store(z, place.f[2]);
        rows.prepare(level, place);
        if constexpr (ALONG) {
            speeds(level, points, along, n, i, count, v);
            store(vy, v[1]), store(vz, v[2]);
        }
    }

    HGE_INLINE void perform(const float* table) {
        for (int p = 0; p < LANES; ++p) {
            const auto of = rows.of(p);
            const v4 near = load_row(table, of, 0), near_step = load_row(table, of, 1) - near;
            const v4 far = load_row(table, of, 2), far_step = load_row(table, of, 3) - far;
            const v4 a = near + y[p] * near_step, b = far + y[p] * far_step;
            const v4 sum = a + z[p] * (b - a);
            std::memcpy(sums[p], &sum, sizeof sum);
            if constexpr (ALONG) {
                const v4 by_y = near_step + z[p] * (far_step - near_step);
                const v4 slope = vy[p] * by_y + vz[p] * (b - a);
                std::memcpy(slopes[p], &slope, sizeof slope);
            }
        }
    }

    // The two features of each point.
    HGE_INLINE void finish(vf (&out)[2]) const {
        vf at[4];
        columns(sums, at);
        if constexpr (ALONG) {
            vf slope[4];
            columns(slopes, slope);
            for (int f = 0; f < 2; ++f)
                out[f] = mix(slope[f], slope[2 + f], x) + v[0] * (at[2 + f] - at[f]);
        } else {
            for (int f = 0; f < 2; ++f) out[f] = mix(at[f], at[2 + f], x);
        }
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
    Reads<ALONG, HASHED> reads[3];
    auto *last = &reads[0], *now = &reads[1], *next = &reads[2];
    const auto prepare = [&](int64_t i) HGE_ALWAYS {
        if (i >= end) return;
        next->prepare(level, points, along, n, i, end - i);
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
template <bool HASHED>
HGE_INLINE void corner_values(const Level& level, const Place& place, const float* table, vf a,
                              vf b, vf (&s)[8]) {
    Rows<HASHED> rows;
    alignas(64) float grads[LANES][4], products[4][LANES][4];
    rows.prepare(level, place);
    write_rows(a, b, a, b, grads);
    for (int p = 0; p < LANES; ++p) {
        const auto of = rows.of(p);
        const v4 grad = load_four(grads[p]);
        for (int r = 0; r < 4; ++r) {
            const v4 product = grad * load_row(table, of, r);
            std::memcpy(products[r][p], &product, sizeof product);
        }
    }
    for (int r = 0; r < 4; ++r) {
        vf at[4];
        columns(products[r], at);
        s[2 * r] = at[0] + at[1], s[2 * r + 1] = at[2] + at[3];
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
            const vf a = load(in + i, count), b = load(in + n + i, count);
            Place place;
            vf s[8], d[3], scale[3];
            scales(level, points, n, i, count, scale);
            if (level.hashed) {
                place.find<true>(level, points, n, i, count);
                corner_values<true>(level, place, table, a, b, s);
            } else {
                place.find<false>(level, points, n, i, count);
                corner_values<false>(level, place, table, a, b, s);
            }
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
