// Where points lie in a level of the hash grid. SPDX-License-Identifier: Apache-2.0

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
    vf f[3];  // fraction
    vu index[8];
    vu apart[3];  // bits in which the indices of neighbours along an axis differ, if hashed

    template <bool HASHED>
    HGE_INLINE void find(const Level& level, const float* points, int64_t n, int64_t i,
                         int64_t count) {
        vu cell[3];
        for (int k = 0; k < 3; ++k) {
            const vf at = load(points + k * n + i, count);
            const vf inside = minimum(maximum(at, vf{}), splat(1.0f));
            const vi whole =
                minimum(__builtin_convertvector(inside * level.resolution, vi), vi{} + level.last);
            f[k] = inside * level.resolution - __builtin_convertvector(whole, vf);
            cell[k] = (vu)whole;
        }
        const vu x = cell[0];
        if constexpr (HASHED) {
            vu y[2], z[2];
            y[0] = cell[1] * 2654435761u, y[1] = y[0] + 2654435761u;
            z[0] = cell[2] * 805459861u, z[1] = z[0] + 805459861u;
            for (int c = 0; c < 8; ++c)
                index[c] = ((x + (c & 1)) ^ y[c >> 1 & 1] ^ z[c >> 2]) & level.mask;
            apart[0] = (x ^ (x + 1)) & level.mask;
            apart[1] = (y[0] ^ y[1]) & level.mask, apart[2] = (z[0] ^ z[1]) & level.mask;
        } else {
            const vu first = x + level.side * (cell[1] + level.side * cell[2]);
            for (int c = 0; c < 8; ++c) {
                index[c] = first + (c & 1) + level.side * ((c >> 1 & 1) + level.side * (c >> 2));
            }
        }
    }
};

// The derivative of the positions by the points: the resolution, or 0 outside of the box.
HGE_INLINE void scales(const Level& level, const float* points, int64_t n, int64_t i, int64_t count,
                       vf (&scale)[3]) {
    for (int k = 0; k < 3; ++k) {
        const vf x = load(points + k * n + i, count);
        scale[k] = keep((x >= 0.0f) & (x <= 1.0f), splat(level.resolution));
    }
}

// How fast the positions change in a direction.
HGE_INLINE void speeds(const Level& level, const float* points, const float* along, int64_t n,
                       int64_t i, int64_t count, vf (&v)[3]) {
    scales(level, points, n, i, count, v);
    for (int k = 0; k < 3; ++k) v[k] *= load(along + k * n + i, count);
}
