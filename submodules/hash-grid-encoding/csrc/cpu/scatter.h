// The transpose of encoding: additions into the tables. SPDX-License-Identifier: Apache-2.0

// How the neighbours of a row lie in the table: side by side; by a hash, reached by whole spans; or
// by a hash, each by itself.
enum class Rows { SIDE_BY_SIDE, SPANS, SCATTERED };

// What LANES points add. A corner's addition is the product of what its point gives in x, for both
// neighbours of a row, and of the weight in y and z of its row, r = y + 2 z.
template <bool ALONG, Rows ROWS>
struct Additions {
    alignas(64) float x[LANES][4], dx[LANES][4];  // [point][neighbour, feature]
    alignas(64) float yz[4][LANES], dyz[4][LANES];
    alignas(64) uint32_t first[4][LANES], second[4][LANES], spread[4][LANES];
    uint32_t apart;  // bits of the points whose neighbours lie in two spans

    HGE_INLINE void prepare(const Level& level, const float* points, const float* along,
                            const float* grads, int64_t n, int64_t i, int64_t count) {
        Place place;
        place.find<ROWS != Rows::SIDE_BY_SIDE>(level, points, n, i, count);
        const vf a = load(grads + i, count), b = load(grads + n + i, count);
        const vf(&f)[3] = place.f;
        const vf y[2] = {1.0f - f[1], f[1]}, z[2] = {1.0f - f[2], f[2]};
        write(a * (1.0f - f[0]), b * (1.0f - f[0]), a * f[0], b * f[0], x);
        for (int r = 0; r < 4; ++r) store(yz[r], y[r & 1] * z[r >> 1]);
        if constexpr (ALONG) {
            vf v[3];
            speeds(level, points, along, n, i, count, v);
            const vf dy[2] = {-v[1], v[1]}, dz[2] = {-v[2], v[2]};
            write(-v[0] * a, -v[0] * b, v[0] * a, v[0] * b, dx);
            for (int r = 0; r < 4; ++r)
                store(dyz[r], dy[r & 1] * z[r >> 1] + y[r & 1] * dz[r >> 1]);
        }
        for (int r = 0; r < 4; ++r) {
            std::memcpy(first[r], &place.index[2 * r], sizeof first[r]);
            std::memcpy(second[r], &place.index[2 * r + 1], sizeof second[r]);
        }
#ifdef __AVX2__
        if constexpr (ROWS == Rows::SPANS) {
            const vu kind = (place.x ^ (place.x + 1)) >> 1 & APART;
            apart = bits((vi)(kind == APART)) & (count < LANES ? (1u << count) - 1 : ~0u);
            for (int r = 0; r < 4; ++r) {
                const vu at = place.index[2 * r], begin = at & ~(SPAN - 1);
                const vu row = (kind * SPAN + (at & (SPAN - 1))) * SPAN_LANES;
                std::memcpy(first[r], &begin, sizeof begin);
                std::memcpy(spread[r], &row, sizeof row);
            }
        }
#endif
    }

    // Point by point, row by row; then the second neighbours of those that are apart.
    HGE_INLINE void perform(float* table, int64_t points) const {
        for (int p = 0; p < points; ++p) {
            for (int r = 0; r < 4; ++r) {
                const v4 four = of_row(r, p);
                if constexpr (ROWS == Rows::SIDE_BY_SIDE) {
                    add_neighbours(table, first[r][p], four);
                } else if constexpr (ROWS == Rows::SCATTERED) {
                    float pairs[4];
                    std::memcpy(pairs, &four, sizeof pairs);
                    add_pair(table, first[r][p], pairs), add_pair(table, second[r][p], pairs + 2);
                } else {
#ifdef __AVX2__
                    add_span(table, first[r][p], four, spread[r][p]);
#endif
                }
            }
        }
#ifdef __AVX2__
        if constexpr (ROWS == Rows::SPANS) {
            for (uint32_t left = apart; left; left &= left - 1) {
                const int p = __builtin_ctz(left);
                for (int r = 0; r < 4; ++r) {
                    const uint32_t at = second[r][p], place = at & (SPAN - 1);
                    add_span(table, at - place, of_row(r, p), (FAR * SPAN + place) * SPAN_LANES);
                }
            }
        }
#endif
    }

  private:
    HGE_INLINE v4 of_row(int r, int p) const {
        const v4 at = load_four(x[p]);
        if constexpr (ALONG) return load_four(dx[p]) * yz[r][p] + at * dyz[r][p];
        return at * yz[r][p];
    }

    // Two features of both neighbours, point by point.
    HGE_INLINE static void write(vf a0, vf b0, vf a1, vf b1, float (&out)[LANES][4]) {
        const vf low0 = shuffle<ZipLow>(a0, b0), low1 = shuffle<ZipLow>(a1, b1);
        const vf high0 = shuffle<ZipHigh>(a0, b0), high1 = shuffle<ZipHigh>(a1, b1);
        store(out[0], shuffle<ZipPairsLow>(low0, low1));
        store(out[LANES / 4], shuffle<ZipPairsHigh>(low0, low1));
        store(out[LANES / 2], shuffle<ZipPairsLow>(high0, high1));
        store(out[3 * LANES / 4], shuffle<ZipPairsHigh>(high0, high1));
    }
};

// Additions are prepared one vector of points ahead: by the time that they are made, what was
// written for them has left the store buffer.
template <bool ALONG, Rows ROWS>
static void scatter_level(const Level& of, const float* points, const float* along,
                          const float* grads, int64_t n, float* table) {
    if (n == 0) return;
    const Level level = of;
    Additions<ALONG, ROWS> additions[2];
    int turn = 0;
    const auto step = [&](int64_t i, int64_t count, int64_t next) HGE_ALWAYS {
        if (next > 0)
            additions[turn ^ 1].prepare(level, points, along, grads, n, i + LANES, next);
        additions[turn].perform(table, count);
        turn ^= 1;
    };
    additions[0].prepare(level, points, along, grads, n, 0, n);
    int64_t i = 0;
    for (; i + 2 * LANES <= n; i += LANES) step(i, LANES, LANES);
    for (; i < n; i += LANES) step(i, n - i < LANES ? n - i : LANES, n - i - LANES);
}

template <bool ALONG>
static void scatter_any(const Level& level, const float* points, const float* along,
                        const float* grads, int64_t n, float* table) {
#ifdef __AVX2__
    constexpr Rows HASHED = Rows::SPANS;
#else
    constexpr Rows HASHED = Rows::SCATTERED;
#endif
    const auto run =
        level.hashed ? scatter_level<ALONG, HASHED> : scatter_level<ALONG, Rows::SIDE_BY_SIDE>;
    run(level, points, along, grads, n, table);
}

static void scatter(const hge_grid& grid, int level, const float* points, const float* along,
                    const float* grads, int64_t n, float* grad_tables) {
    (along ? scatter_any<true> : scatter_any<false>)(Level(grid, level), points, along, grads, n,
                                                     grad_tables + 2 * grid.offsets[level]);
}
