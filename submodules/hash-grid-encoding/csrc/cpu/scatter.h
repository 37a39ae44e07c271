// The transpose of encoding: additions into the tables. SPDX-License-Identifier: Apache-2.0

// What LANES points add. A corner's addition is the product of what its point gives in x, for both
// neighbours of a row, and of the weight in y and z of its row, r = y + 2 z.
template <bool ALONG, bool HASHED>
struct Additions {
    alignas(64) float x[LANES][4], dx[LANES][4];  // [point][neighbour, feature]
    alignas(64) float yz[4][LANES], dyz[4][LANES];
    Rows<HASHED> rows;

    HGE_INLINE void prepare(const Level& level, const float* points, const float* along, int64_t n,
                            int64_t i, int64_t count, const float* grads, int64_t pitch) {
        Place place;
        place.find<HASHED>(level, points, n, i, count);
        const vf a = load(grads, count), b = load(grads + pitch, count);
        const vf(&f)[3] = place.f;
        const vf y[2] = {1.0f - f[1], f[1]}, z[2] = {1.0f - f[2], f[2]};
        write_rows(a * (1.0f - f[0]), b * (1.0f - f[0]), a * f[0], b * f[0], x);
        for (int r = 0; r < 4; ++r) store(yz[r], y[r & 1] * z[r >> 1]);
        if constexpr (ALONG) {
            vf v[3];
            speeds(level, points, along, n, i, count, v);
            const vf dy[2] = {-v[1], v[1]}, dz[2] = {-v[2], v[2]};
            write_rows(-v[0] * a, -v[0] * b, v[0] * a, v[0] * b, dx);
            for (int r = 0; r < 4; ++r)
                store(dyz[r], dy[r & 1] * z[r >> 1] + y[r & 1] * dz[r >> 1]);
        }
        rows.prepare(level, place);
    }

    // Point by point, row by row.
    HGE_INLINE void perform(float* table, int64_t points) const {
        for (int p = 0; p < points; ++p) {
            const auto of = rows.of(p);
            for (int r = 0; r < 4; ++r) add_row(table, of, r, of_row(r, p));
        }
    }

  private:
    HGE_INLINE v4 of_row(int r, int p) const {
        const v4 at = load_four(x[p]);
        if constexpr (ALONG) return load_four(dx[p]) * yz[r][p] + at * dyz[r][p];
        return at * yz[r][p];
    }
};

// Additions are prepared one vector of points ahead: by the time that they are made, what was
// written for them has left the store buffer.
template <bool ALONG, bool HASHED>
static void scatter_level(const Level& of, const float* points, const float* along, int64_t n,
                          int64_t begin, int64_t end, const float* grads, int64_t pitch,
                          float* table) {
    if (begin >= end) return;
    const Level level = of;
    Additions<ALONG, HASHED> additions[2];
    int turn = 0;
    const auto prepare = [&](int which, int64_t i, int64_t count) HGE_ALWAYS {
        additions[which].prepare(level, points, along, n, i, count, grads + i - begin, pitch);
    };
    const auto step = [&](int64_t i, int64_t count, int64_t next) HGE_ALWAYS {
        if (next > 0) prepare(turn ^ 1, i + LANES, next);
        additions[turn].perform(table, count);
        turn ^= 1;
    };
    prepare(0, begin, end - begin);
    int64_t i = begin;
    for (; i + 2 * LANES <= end; i += LANES) step(i, LANES, LANES);
    for (; i < end; i += LANES) step(i, end - i < LANES ? end - i : LANES, end - i - LANES);
}

static void scatter(const hge_grid& grid, int level, const float* points, const float* along,
                    int64_t n, int64_t begin, int64_t end, const float* grads, int64_t pitch,
                    float* grad_tables) {
    const Level of(grid, level);
    const auto run = along ? (of.hashed ? scatter_level<true, true> : scatter_level<true, false>)
                           : (of.hashed ? scatter_level<false, true> : scatter_level<false, false>);
    run(of, points, along, n, begin, end, grads, pitch, grad_tables + 2 * grid.offsets[level]);
}
