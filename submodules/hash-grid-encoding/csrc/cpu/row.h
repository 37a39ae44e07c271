// The rows of a cell's corners, each two neighbours in x: where they are, reads and additions.
// SPDX-License-Identifier: Apache-2.0

// Four floats: the pairs of two neighbours.
typedef float v4 __attribute__((vector_size(16)));
HGE_INLINE v4 load_four(const float* p) {
    v4 x;
    __builtin_memcpy(&x, p, sizeof x);
    return x;
}

// Two features of both neighbours, point by point.
HGE_INLINE void write_rows(vf a0, vf b0, vf a1, vf b1, float (&out)[LANES][4]) {
    const vf low0 = shuffle<ZipLow>(a0, b0), low1 = shuffle<ZipLow>(a1, b1);
    const vf high0 = shuffle<ZipHigh>(a0, b0), high1 = shuffle<ZipHigh>(a1, b1);
    store(out[0], shuffle<ZipPairsLow>(low0, low1));
    store(out[LANES / 4], shuffle<ZipPairsHigh>(low0, low1));
    store(out[LANES / 2], shuffle<ZipPairsLow>(high0, high1));
    store(out[3 * LANES / 4], shuffle<ZipPairsHigh>(high0, high1));
}

// The pairs of two entries.
HGE_INLINE v4 load_pairs(const float* a, const float* b) {
#ifdef __SSE2__
    const __m128d low = _mm_load_sd(reinterpret_cast<const double*>(a));
    return (v4)_mm_loadh_pd(low, reinterpret_cast<const double*>(b));
#else
    return v4{a[0], a[1], b[0], b[1]};
#endif
}

// The four rows of LANES points; row r is that with y + (r & 1), z + (r >> 1). Side by side in the
// table,
template <bool HASHED>
struct Rows {
    alignas(64) uint32_t first[LANES];
    uint32_t steps[4];

    struct Of {  // of one point; at(r) is a row's first entry
        uint32_t first;
        const uint32_t* steps;
        HGE_INLINE uint32_t at(int r) const { return first + steps[r]; }
    };

    HGE_INLINE void prepare(const Level& level, const Place& place) {
        std::memcpy(first, &place.first, sizeof first);
        for (uint32_t r = 0; r < 4; ++r) steps[r] = level.side * ((r & 1) + level.side * (r >> 1));
    }
    HGE_INLINE Of of(int p) const { return {first[p], steps}; }
};

// or by a hash: then a step along an axis changes the same bits of all its indices.
template <>
struct Rows<true> {
    alignas(64) uint32_t first[LANES], apart[3][LANES];

    struct Of {
        uint32_t first, x, y, z;
        HGE_INLINE uint32_t at(int r) const { return first ^ (r & 1 ? y : 0) ^ (r & 2 ? z : 0); }
    };

    HGE_INLINE void prepare(const Level&, const Place& place) {
        std::memcpy(first, &place.first, sizeof first);
        std::memcpy(apart, place.apart, sizeof apart);
    }
    HGE_INLINE Of of(int p) const { return {first[p], apart[0][p], apart[1][p], apart[2][p]}; }
};

// The pairs of both neighbours in row r.
HGE_INLINE v4 load_row(const float* table, const Rows<false>::Of& of, int r) {
    return load_four(table + 2 * static_cast<size_t>(of.at(r)));
}
HGE_INLINE v4 load_row(const float* table, const Rows<true>::Of& of, int r) {
    const uint32_t at = of.at(r);
    return load_pairs(table + 2 * static_cast<size_t>(at),
                      table + 2 * static_cast<size_t>(at ^ of.x));
}

// += four, the pairs of both neighbours.
HGE_INLINE void add_row(float* table, const Rows<false>::Of& of, int r, v4 four) {
    float* at = table + 2 * static_cast<size_t>(of.at(r));
    four += load_four(at);
    __builtin_memcpy(at, &four, sizeof four);
}
HGE_INLINE void add_row(float* table, const Rows<true>::Of& of, int r, v4 four) {
    const uint32_t at = of.at(r);
    float* a = table + 2 * static_cast<size_t>(at);
    float* b = table + 2 * static_cast<size_t>(at ^ of.x);
    four += load_pairs(a, b);
#ifdef __SSE2__
    _mm_storel_pd(reinterpret_cast<double*>(a), (__m128d)four);
    _mm_storeh_pd(reinterpret_cast<double*>(b), (__m128d)four);
#else
    a[0] = four[0], a[1] = four[1], b[0] = four[2], b[1] = four[3];
#endif
}
