// Additions to the two neighbours of a row, which differ in x. SPDX-License-Identifier: Apache-2.0

// Four floats: the pairs of two neighbours.
typedef float v4 __attribute__((vector_size(16)));
HGE_INLINE v4 load_four(const float* p) {
    v4 x;
    __builtin_memcpy(&x, p, sizeof x);
    return x;
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

// table[index], table[index + 1] += four.
HGE_INLINE void add_neighbours(float* table, uint32_t index, v4 four) {
    float* at = table + 2 * static_cast<size_t>(index);
    four += load_four(at);
    __builtin_memcpy(at, &four, sizeof four);
}

// table[index] += pair, two floats.
HGE_INLINE void add_pair(float* table, uint32_t index, const float* pair) {
    float* at = table + 2 * static_cast<size_t>(index);
#ifdef __SSE2__
    const __m128d old = _mm_load_sd(reinterpret_cast<const double*>(at));
    const __m128d more = _mm_load_sd(reinterpret_cast<const double*>(pair));
    _mm_store_sd(reinterpret_cast<double*>(at),
                 _mm_castps_pd(_mm_add_ps(_mm_castpd_ps(old), _mm_castpd_ps(more))));
#else
    at[0] += pair[0], at[1] += pair[1];
#endif
}

// A hash scatters the rows, but x is not multiplied in it: neighbours differ in the lowest bits of
// the index, and in 3 of 4 cases in no more than the place in a span of four entries. Then one load
// and one store of the span, a vector of AVX2, reach both. (A line of the cache, a vector of
// AVX-512, would reach 7 of 8, but processors that store it in two halves take longer.)
constexpr uint32_t SPAN = 4;          // entries
constexpr int SPAN_LANES = 2 * SPAN;  // floats

#ifdef __AVX2__
// Lane i of the span takes lane at[kind][place][i] of the four floats, or a zero from beyond them;
// `place` is where the first neighbour lies, and the second differs from it in the bits 2 kind + 1.
// If those are all bits, the second lies in another span, to which FAR belongs.
constexpr uint32_t APART = SPAN - 1, FAR = 2;
struct Spreads {
    int32_t at[SPAN][SPAN][SPAN_LANES];
    constexpr Spreads() : at() {
        for (uint32_t kind = 0; kind < SPAN; ++kind) {
            for (uint32_t place = 0; place < SPAN; ++place) {
                for (uint32_t entry = 0; entry < SPAN; ++entry) {
                    const bool first = kind != FAR && entry == place;
                    const bool second = kind == FAR     ? entry == place
                                        : kind == APART ? false
                                                        : entry == (place ^ (2 * kind + 1));
                    const int from = first ? 0 : second ? 2 : 4;
                    at[kind][place][2 * entry] = from;
                    at[kind][place][2 * entry + 1] = first || second ? from + 1 : from;
                }
            }
        }
    }
};
alignas(64) constexpr Spreads spreads;

// Adds to the span of entries that begins at table[first]; `spread` counts from the first lane of
// `spreads`.
HGE_INLINE void add_span(float* table, uint32_t first, v4 four, uint32_t spread) {
    float* at = table + 2 * static_cast<size_t>(first);
    const int32_t* lanes = &spreads.at[0][0][0] + spread;
    const __m256 more = _mm256_permutevar8x32_ps(
        _mm256_zextps128_ps256((__m128)four),
        _mm256_load_si256(reinterpret_cast<const __m256i*>(lanes)));
    _mm256_storeu_ps(at, _mm256_add_ps(_mm256_loadu_ps(at), more));
}

// Lanes that are not 0 (each is 0 or -1) as bits.
HGE_INLINE uint32_t bits(vi mask) {
#ifdef __AVX512F__
    return _mm512_movepi32_mask((__m512i)mask);
#else
    return static_cast<uint32_t>(_mm256_movemask_ps((__m256)mask));
#endif
}
#endif
