// LANES floats at a time in the vector extensions of GCC and Clang, with some intrinsics of x86.
// Included inside the instruction set's own namespace. SPDX-License-Identifier: Apache-2.0

#ifdef __AVX512F__
constexpr int LANES = 16;
#else
constexpr int LANES = 8;
#endif
typedef float vf __attribute__((vector_size(4 * LANES)));
typedef int32_t vi __attribute__((vector_size(4 * LANES)));
typedef uint32_t vu __attribute__((vector_size(4 * LANES)));

#define HGE_INLINE inline __attribute__((always_inline))
#define HGE_ALWAYS __attribute__((always_inline))  // after the arguments of a lambda

HGE_INLINE vf splat(float x) { return vf{} + x; }
HGE_INLINE vf keep(vi mask, vf x) { return (vf)(mask & (vi)x); }

// A bit for each lane of a mask, whose lanes are 0 or -1; and back.
HGE_INLINE uint32_t bits(vi mask) {
#if defined(__AVX512F__)
    return _mm512_movepi32_mask((__m512i)mask);
#elif defined(__AVX__)
    return static_cast<uint32_t>(_mm256_movemask_ps((__m256)mask));
#else
    uint32_t bits = 0;
    for (int i = 0; i < LANES; ++i) bits |= static_cast<uint32_t>(mask[i] & 1) << i;
    return bits;
#endif
}
HGE_INLINE vi spread(uint32_t bits) {
#ifdef __AVX512F__
    return (vi)_mm512_movm_epi32(static_cast<__mmask16>(bits));
#else
    const vi lane = {1, 2, 4, 8, 16, 32, 64, 128};
    return ((vi{} + static_cast<int32_t>(bits)) & lane) != 0;
#endif
}

// Both return y where x is NaN.
#if defined(__AVX512F__)
HGE_INLINE vf minimum(vf x, vf y) { return (vf)_mm512_min_ps((__m512)x, (__m512)y); }
HGE_INLINE vf maximum(vf x, vf y) { return (vf)_mm512_max_ps((__m512)x, (__m512)y); }
#elif defined(__AVX__)
HGE_INLINE vf minimum(vf x, vf y) { return (vf)_mm256_min_ps((__m256)x, (__m256)y); }
HGE_INLINE vf maximum(vf x, vf y) { return (vf)_mm256_max_ps((__m256)x, (__m256)y); }
#else
HGE_INLINE vf minimum(vf x, vf y) { return (vf)(((x < y) & (vi)x) | (~(x < y) & (vi)y)); }
HGE_INLINE vf maximum(vf x, vf y) { return (vf)(((x > y) & (vi)x) | (~(x > y) & (vi)y)); }
#endif
// x from a to b, by f from 0 to 1.
HGE_INLINE vf mix(vf a, vf b, vf f) { return a + f * (b - a); }
HGE_INLINE vi minimum(vi x, vi y) { return ((x < y) & x) | (~(x < y) & y); }

HGE_INLINE vf load(const float* p) {
    vf x;
    __builtin_memcpy(&x, p, sizeof x);
    return x;
}
HGE_INLINE void store(float* p, vf x) { __builtin_memcpy(p, &x, sizeof x); }

// The same for the last points, fewer than LANES.
HGE_INLINE vf load(const float* p, int64_t count) {
    if (count >= LANES) return load(p);
    vf x = {};
    __builtin_memcpy(&x, p, static_cast<size_t>(count) * sizeof(float));
    return x;
}
HGE_INLINE void store(float* p, vf x, int64_t count) {
    if (count >= LANES) return store(p, x);
    __builtin_memcpy(p, &x, static_cast<size_t>(count) * sizeof(float));
}

// Eight floats, whatever LANES is.
typedef float v8 __attribute__((vector_size(32)));
HGE_INLINE v8 load_eight(const float* p) {
    v8 x;
    __builtin_memcpy(&x, p, sizeof x);
    return x;
}
HGE_INLINE void store_eight(float* p, v8 x) { __builtin_memcpy(p, &x, sizeof x); }

// Eight floats of a, and with vectors of 16 those of b behind them.
HGE_INLINE vf load_eights(const float* a, const float* b) {
#ifdef __AVX512F__
    return (vf)_mm512_insertf32x8(_mm512_castps256_ps512((__m256)load_eight(a)),
                                  (__m256)load_eight(b), 1);
#else
    (void)b;
    return load(a);
#endif
}
HGE_INLINE void store_eights(float* a, float* b, vf x) {
#ifdef __AVX512F__
    store_eight(a, (v8)_mm512_castps512_ps256((__m512)x));
    store_eight(b, (v8)_mm512_extractf32x8_ps((__m512)x, 1));
#else
    (void)b;
    store(a, x);
#endif
}

// Lane i of the result is lane S::at(i) of a, b put together.
template <class S, int... I>
HGE_INLINE vf shuffle(vf a, vf b, std::integer_sequence<int, I...>) {
#ifdef __clang__
    return __builtin_shufflevector(a, b, S::at(I)...);
#else
    return __builtin_shuffle(a, b, vi{S::at(I)...});
#endif
}
template <class S>
HGE_INLINE vf shuffle(vf a, vf b) {
    return shuffle<S>(a, b, std::make_integer_sequence<int, LANES>());
}
struct Even {
    static constexpr int at(int i) { return 2 * i; }
};
struct Odd {
    static constexpr int at(int i) { return 2 * i + 1; }
};
struct ZipLow {
    static constexpr int at(int i) { return i / 2 + (i % 2 ? LANES : 0); }
};
struct ZipHigh {
    static constexpr int at(int i) { return LANES / 2 + i / 2 + (i % 2 ? LANES : 0); }
};
// The same with pairs of lanes.
struct ZipPairsLow {
    static constexpr int at(int i) { return i / 4 * 2 + i % 2 + (i % 4 > 1 ? LANES : 0); }
};
struct ZipPairsHigh {
    static constexpr int at(int i) { return LANES / 2 + ZipPairsLow::at(i); }
};
template <int S>
struct TradeLow {
    static constexpr int at(int i) { return i & S ? LANES + i - S : i; }
};
template <int S>
struct TradeHigh {
    static constexpr int at(int i) { return i & S ? LANES + i : i + S; }
};

template <int S>
HGE_INLINE void trade(vf* r) {
    for (int i = 0; i < 8; ++i) {
        if (i & S) continue;
        const vf a = r[i], b = r[i | S];
        r[i] = shuffle<TradeLow<S>>(a, b), r[i | S] = shuffle<TradeHigh<S>>(a, b);
    }
}
// Eight rows of LANES floats become columns: those of lane i, and with vectors of 16 behind them
// those of lane i + 8.
HGE_INLINE void transpose_eight(vf* r) { trade<1>(r), trade<2>(r), trade<4>(r); }
