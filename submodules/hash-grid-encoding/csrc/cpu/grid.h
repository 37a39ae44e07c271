// The hash grid: gathers with weights, and what the points' own gradients take.
// SPDX-License-Identifier: Apache-2.0

// The trilinear mix of the corners' pairs.
HGE_INLINE Pairs mixed(Pairs (&at)[8], const vf (&f)[3]) {
    for (int k = 0; k < 3; ++k) {
        const vf low = shuffle<TwiceLow>(f[k], f[k]), high = shuffle<TwiceHigh>(f[k], f[k]);
        for (int c = 0; c < 8; c += 2 << k) {
            const Pairs& other = at[c + (1 << k)];
            at[c] = {mix(at[c].low, other.low, low), mix(at[c].high, other.high, high)};
        }
    }
    return at[0];
}

// Its derivative, where the fractions change by v.
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

// The entries of the next points are worked out before those of the present ones are loaded:
// nothing stands between one vector's loads and the next's, and as many as can wait for memory
// together.
template <bool ALONG, bool HASHED>
static void encode_level(const Level& of, const float* table, const float* points,
                         const float* along, int64_t n, int64_t begin, int64_t end,
                         float* features) {
    if (begin >= end) return;
    const Level level = of;
    Place places[2];
    int turn = 0;
    const auto step = [&](int64_t i, int64_t count, int64_t next) HGE_ALWAYS {
        if (next > 0) places[turn ^ 1].find<HASHED>(level, points, n, i + LANES, next);
        const Place& place = places[turn];
        Pairs at[8], out;
        for (int c = 0; c < 8; ++c) {
            at[c] = gather(table, place.index[c]);
            settle(at[c]);
        }
        if constexpr (ALONG) {
            vf v[3];
            speeds(level, points, along, n, i, count, v);
            out = mixed_along(at, place.f, v);
        } else {
            out = mixed(at, place.f);
        }
        store(features + i, shuffle<Even>(out.low, out.high), count);
        store(features + n + i, shuffle<Odd>(out.low, out.high), count);
        turn ^= 1;
    };
    places[0].find<HASHED>(level, points, n, begin, end - begin);
    int64_t i = begin;
    for (; i + 2 * LANES <= end; i += LANES) step(i, LANES, LANES);
    for (; i < end; i += LANES) step(i, end - i, end - i - LANES);
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
