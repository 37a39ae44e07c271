// The floor under the encoding: nothing but its loads, or its additions in place, at the entries
// that it would take, which are given: index [8, n]. The benchmark holds the kernels against it.
// SPDX-License-Identifier: Apache-2.0

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
