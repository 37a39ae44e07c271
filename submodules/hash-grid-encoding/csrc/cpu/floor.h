// The floor under the encoding: nothing but its loads, or its additions in place, at the entries
// that it would take, which are given: index [8, n]. The benchmark holds the kernels against it.
// SPDX-License-Identifier: Apache-2.0

// Two floats each of LANES entries: those of the first half of the lanes, and of the second.
struct Pairs {
    vf low, high;
};
HGE_INLINE Pairs gather(const float* table, vu index) {
    Pairs out;
#if defined(__AVX512F__)
    const __m512i at = (__m512i)index;
    out.low = (vf)_mm512_i32gather_pd(_mm512_castsi512_si256(at), table, 8);
    out.high = (vf)_mm512_i32gather_pd(_mm512_extracti64x4_epi64(at, 1), table, 8);
#elif defined(__AVX2__)
    const __m256i at = (__m256i)index;
    const double* pairs = reinterpret_cast<const double*>(table);
    out.low = (vf)_mm256_i32gather_pd(pairs, _mm256_castsi256_si128(at), 8);
    out.high = (vf)_mm256_i32gather_pd(pairs, _mm256_extracti128_si256(at, 1), 8);
#else
    float all[2 * LANES];
    for (int i = 0; i < LANES; ++i)
        __builtin_memcpy(all + 2 * i, table + 2 * static_cast<size_t>(index[i]), 8);
    out.low = load(all), out.high = load(all + LANES);
#endif
    return out;
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

static float floor_gather(const float* table, const uint32_t* index, int64_t n) {
    vf low = {}, high = {};
    for (int64_t i = 0; i + LANES <= n; i += LANES) {
        for (int c = 0; c < 8; ++c) {
            vu at;
            std::memcpy(&at, index + c * n + i, sizeof at);
            const Pairs pairs = gather(table, at);
            low += pairs.low, high += pairs.high;
        }
    }
    float sum = 0.0f;
    for (int i = 0; i < LANES; ++i) sum += low[i] + high[i];
    return sum;
}

static void floor_add(float* table, const uint32_t* index, int64_t n) {
    const float pair[2] = {1.0f, 2.0f};
    for (int64_t i = 0; i < n; ++i) {
        for (int c = 0; c < 8; ++c) add_pair(table, index[c * n + i], pair);
    }
}
