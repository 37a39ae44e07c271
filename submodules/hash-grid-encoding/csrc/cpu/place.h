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

// Where LANES points lie in a level.
struct Place {
    vf f[3];      // fraction
    vu first;     // entry of the cell's lowest corner
    vu apart[3];  // bits in which the entries of neighbours along an axis differ, if hashed

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
        if constexpr (HASHED) {
            constexpr uint32_t primes[3] = {1u, 2654435761u, 805459861u};
            first = vu{};
            for (int k = 0; k < 3; ++k) {
                const vu near = cell[k] * primes[k], far = near + primes[k];
                first ^= near, apart[k] = (near ^ far) & level.mask;
            }
            first &= level.mask;
        } else {
            first = cell[0] + level.side * (cell[1] + level.side * cell[2]);
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
