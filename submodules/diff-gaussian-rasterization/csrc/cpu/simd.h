// Eight (or DGR_LANES) floats at a time in the vector extensions of GCC and Clang; portable to
// every target, with a few x86 builtins where the compilers do not find the instruction. Included
// inside the instruction set's own namespace. SPDX-License-Identifier: Apache-2.0

template <int N>
struct Lanes {
    typedef float Float __attribute__((vector_size(4 * N)));
    typedef int32_t Int __attribute__((vector_size(4 * N)));
    typedef uint8_t Byte __attribute__((vector_size(N)));
};
using f8 = Lanes<8>::Float;
using i8 = Lanes<8>::Int;
using b8 = Lanes<8>::Byte;
using f16 = Lanes<16>::Float;
using i16 = Lanes<16>::Int;

#define DGR_INLINE inline __attribute__((always_inline))

DGR_INLINE i8 bits(f8 x) { return (i8)x; }
DGR_INLINE i16 bits(f16 x) { return (i16)x; }
DGR_INLINE f8 as_float(i8 x) { return (f8)x; }
DGR_INLINE f16 as_float(i16 x) { return (f16)x; }
DGR_INLINE f8 splat8(float x) { return f8{} + x; }

// x where the mask (all ones or all zeros per lane) is set, else 0.
template <class F, class I>
DGR_INLINE F keep(I mask, F x) {
    return as_float(mask & bits(x));
}

template <class F, class I>
DGR_INLINE F pick(I mask, F yes, F no) {
    return as_float((mask & bits(yes)) | (~mask & bits(no)));
}

// Both return y where one of x and y is NaN.
DGR_INLINE f8 minimum(f8 x, f8 y) {
#ifdef __AVX__
    return __builtin_ia32_minps256(x, y);
#else
    return pick(x < y, x, y);
#endif
}
DGR_INLINE f8 maximum(f8 x, f8 y) {
#ifdef __AVX__
    return __builtin_ia32_maxps256(x, y);
#else
    return pick(x > y, x, y);
#endif
}
DGR_INLINE f8 root(f8 x) {
#ifdef __AVX__
    return __builtin_ia32_sqrtps256(x);
#else
    for (int i = 0; i < 8; ++i) x[i] = __builtin_sqrtf(x[i]);
    return x;
#endif
}
// The square root of x > 0 to 0.04 %, NaN below 0.
DGR_INLINE f8 rough_root(f8 x) {
#ifdef __AVX__
    return x * __builtin_ia32_rsqrtps256(x);
#else
    return root(x);
#endif
}
DGR_INLINE bool any(i8 mask) {
#ifdef __AVX__
    return __builtin_ia32_movmskps256((f8)mask) != 0;
#else
    typedef int64_t i64x4 __attribute__((vector_size(32)));
    const i64x4 x = (i64x4)mask;
    return ((x[0] | x[1]) | (x[2] | x[3])) != 0;
#endif
}
// Bit i: lane i of the mask.
DGR_INLINE uint32_t lane_bits(i8 mask) {
#ifdef __AVX__
    return static_cast<uint32_t>(__builtin_ia32_movmskps256((f8)mask));
#else
    uint32_t found = 0;
    for (int i = 0; i < 8; ++i) found |= static_cast<uint32_t>(mask[i] & 1) << i;
    return found;
#endif
}
DGR_INLINE uint32_t lane_bits(i16 mask) {
    i8 halves[2];
    __builtin_memcpy(halves, &mask, sizeof mask);
    return lane_bits(halves[0]) | lane_bits(halves[1]) << 8;
}
DGR_INLINE f16 minimum(f16 x, f16 y) { return pick(x < y, x, y); }
DGR_INLINE bool any(i16 mask) {
    i8 halves[2];
    __builtin_memcpy(halves, &mask, sizeof mask);
    return any(halves[0] | halves[1]);
}

// Is a lane of x in (0, end)?
template <class F>
DGR_INLINE bool any_within(F x, float end) {
    return any((x < end) & (x > 0.0f));
}
#ifdef __AVX512F__
template <>
DGR_INLINE bool any_within(f16 x, float end) {  // compilers take the masks through vectors
    const uint16_t below =
        __builtin_ia32_cmpps512_mask(x, f16{} + end, 1 /* < */, static_cast<uint16_t>(-1), 4);
    return __builtin_ia32_cmpps512_mask(f16{}, x, 1, below, 4) != 0;
}
#endif

template <class F>
DGR_INLINE F load(const float* p) {
    F x;
    __builtin_memcpy(&x, p, sizeof x);
    return x;
}
template <class F>
DGR_INLINE void store(float* p, F x) {
    __builtin_memcpy(p, &x, sizeof x);
}

// Brings floats [begin, end) towards the cache.
DGR_INLINE void prefetch(const float* data, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += 16) __builtin_prefetch(data + i);
}

// Stores that leave the caches alone: for results larger than those, which would be read from
// memory only to be overwritten.
DGR_INLINE bool streams(const float* at, int64_t count) {
#ifdef __AVX__
    return count > (1 << 20) && reinterpret_cast<uintptr_t>(at) % sizeof(f8) == 0;
#else
    return at == nullptr && count < 0;
#endif
}
DGR_INLINE void stream(float* p, f8 x) {
#ifdef __AVX__
    __builtin_ia32_movntps256(p, x);
#else
    store(p, x);
#endif
}
// Before another thread may read what was streamed.
DGR_INLINE void stream_fence() {
#ifdef __AVX__
    __builtin_ia32_sfence();
#endif
}

// 1 / x. The estimate of 14 bits and one Newton step are good to the last bit or two; that of 12
// bits would not be.
DGR_INLINE f8 reciprocal(f8 x) { return 1.0f / x; }
DGR_INLINE f16 reciprocal(f16 x) {
#ifdef __AVX512F__
    const f16 r = __builtin_ia32_rcp14ps512_mask(x, f16{}, static_cast<uint16_t>(-1));
    return r + r * (1.0f - x * r);
#else
    return 1.0f / x;
#endif
}

// 2^x for |x| < 126, relative error below 2e-7: nearest integer by the rounding of a large sum, and
// a minimax polynomial.
template <class F>
DGR_INLINE F exp2(F x) {
    constexpr float magic = 12582912.0f;  // 1.5 * 2^23
    const F shifted = x + magic;
    const F f = x - (shifted - magic);
    F p = f * 1.3264727214e-3f + 9.6715128126e-3f;
    p = p * f + 5.5507337448e-2f;
    p = p * f + 2.4022242083e-1f;
    p = p * f + 6.9314697760e-1f;
    p = p * f + 1.0f;
    return as_float(bits(p) + (bits(shifted) << 23));
}

// log2 of a positive normal number, absolute error below 1e-7 * max(1, |result|): atanh series on
// [sqrt(1/2), sqrt(2)).
DGR_INLINE f8 log2(f8 x) {
    const i8 biased = bits(x) - 0x3f3504f3;
    const i8 exponent = biased >> 23;
    const f8 m = as_float((biased & 0x7fffff) + 0x3f3504f3);
    const f8 t = (m - 1.0f) / (m + 1.0f), u = t * t;
    f8 p = u * 0.32059889f + 0.41219858f;
    p = p * u + 0.57707802f;
    p = p * u + 0.96179669f;
    p = p * u + 2.88539008f;
    return p * t + __builtin_convertvector(exponent, f8);
}

#ifdef __clang__
#define DGR_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define DGR_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, i8{__VA_ARGS__})
#endif

DGR_INLINE f8 interleave_low(f8 a, f8 b) { return DGR_SHUFFLE(a, b, 0, 8, 1, 9, 4, 12, 5, 13); }
DGR_INLINE f8 interleave_high(f8 a, f8 b) { return DGR_SHUFFLE(a, b, 2, 10, 3, 11, 6, 14, 7, 15); }
DGR_INLINE f8 pairs_low(f8 a, f8 b) { return DGR_SHUFFLE(a, b, 0, 1, 8, 9, 4, 5, 12, 13); }
DGR_INLINE f8 pairs_high(f8 a, f8 b) { return DGR_SHUFFLE(a, b, 2, 3, 10, 11, 6, 7, 14, 15); }
DGR_INLINE f8 halves_low(f8 a, f8 b) { return DGR_SHUFFLE(a, b, 0, 1, 2, 3, 8, 9, 10, 11); }
DGR_INLINE f8 halves_high(f8 a, f8 b) { return DGR_SHUFFLE(a, b, 4, 5, 6, 7, 12, 13, 14, 15); }

DGR_INLINE void transpose(f8 (&r)[8]) {
    f8 s[8], t[8];
    for (int i = 0; i < 4; ++i) {
        s[2 * i] = interleave_low(r[2 * i], r[2 * i + 1]);
        s[2 * i + 1] = interleave_high(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 2; ++i) {
        t[4 * i] = pairs_low(s[4 * i], s[4 * i + 2]);
        t[4 * i + 1] = pairs_high(s[4 * i], s[4 * i + 2]);
        t[4 * i + 2] = pairs_low(s[4 * i + 1], s[4 * i + 3]);
        t[4 * i + 3] = pairs_high(s[4 * i + 1], s[4 * i + 3]);
    }
    for (int i = 0; i < 4; ++i) {
        r[i] = halves_low(t[i], t[i + 4]);
        r[i + 4] = halves_high(t[i], t[i + 4]);
    }
}

// Lane i of the result is the sum of the lanes of r[i].
DGR_INLINE f8 sums(const f8 (&r)[8]) {
    f8 s[4], t[2];
    for (int i = 0; i < 4; ++i) {
        s[i] = interleave_low(r[2 * i], r[2 * i + 1]) + interleave_high(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 2; ++i)
        t[i] = pairs_low(s[2 * i], s[2 * i + 1]) + pairs_high(s[2 * i], s[2 * i + 1]);
    return halves_low(t[0], t[1]) + halves_high(t[0], t[1]);
}
// Lanes 0 and 1 of the result are the sums of the lanes of a and of b.
DGR_INLINE f8 two_sums(f8 a, f8 b) {
    f8 s = interleave_low(a, b) + interleave_high(a, b);
    s = s + halves_high(s, s);
    return s + pairs_high(s, s);
}

DGR_INLINE f8 fold(f8 x) { return x; }
DGR_INLINE f8 fold(f16 x) {
    f8 halves[2];
    __builtin_memcpy(halves, &x, sizeof x);
    return halves[0] + halves[1];
}

// Eight rows of three floats in one piece, as columns, and back.
DGR_INLINE void split_threes(const float* data, f8* out) {
    const f8 a = load<f8>(data), b = load<f8>(data + 8), c = load<f8>(data + 16);
    out[0] = DGR_SHUFFLE(DGR_SHUFFLE(a, b, 0, 3, 6, 9, 12, 15, 0, 0), c, 0, 1, 2, 3, 4, 5, 10, 13);
    out[1] = DGR_SHUFFLE(DGR_SHUFFLE(a, b, 1, 4, 7, 10, 13, 0, 0, 0), c, 0, 1, 2, 3, 4, 8, 11, 14);
    out[2] = DGR_SHUFFLE(DGR_SHUFFLE(a, b, 2, 5, 8, 11, 14, 0, 0, 0), c, 0, 1, 2, 3, 4, 9, 12, 15);
}
DGR_INLINE void join_threes(const f8* in, float* data) {
    const f8 x = in[0], y = in[1], z = in[2];
    store(data, DGR_SHUFFLE(DGR_SHUFFLE(x, y, 0, 8, 0, 1, 9, 0, 2, 10), z, 0, 1, 8, 3, 4, 9, 6, 7));
    store(data + 8,
          DGR_SHUFFLE(DGR_SHUFFLE(x, y, 0, 3, 11, 0, 4, 12, 0, 5), z, 10, 1, 2, 11, 4, 5, 12, 7));
    store(data + 16,
          DGR_SHUFFLE(DGR_SHUFFLE(x, y, 13, 0, 6, 14, 0, 7, 15, 0), z, 0, 13, 2, 3, 14, 5, 6, 15));
}
// The same for rows of four.
DGR_INLINE void split_fours(const float* data, f8* out) {
    const f8 a = load<f8>(data), b = load<f8>(data + 8), c = load<f8>(data + 16),
             d = load<f8>(data + 24);
    const f8 ab[2] = {DGR_SHUFFLE(a, b, 0, 4, 8, 12, 1, 5, 9, 13),
                      DGR_SHUFFLE(a, b, 2, 6, 10, 14, 3, 7, 11, 15)};
    const f8 cd[2] = {DGR_SHUFFLE(c, d, 0, 4, 8, 12, 1, 5, 9, 13),
                      DGR_SHUFFLE(c, d, 2, 6, 10, 14, 3, 7, 11, 15)};
    for (int i = 0; i < 2; ++i)
        out[2 * i] = halves_low(ab[i], cd[i]), out[2 * i + 1] = halves_high(ab[i], cd[i]);
}
DGR_INLINE void join_fours(const f8* in, float* data) {
    f8 low[2], high[2];  // rows 0 1 4 5, rows 2 3 6 7
    for (int i = 0; i < 2; ++i) {
        low[i] = interleave_low(in[2 * i], in[2 * i + 1]),
        high[i] = interleave_high(in[2 * i], in[2 * i + 1]);
    }
    const f8 rows[4] = {pairs_low(low[0], low[1]), pairs_high(low[0], low[1]),
                        pairs_low(high[0], high[1]),
                        pairs_high(high[0], high[1])};  // 0 4, 1 5, 2 6, 3 7
    store(data, halves_low(rows[0], rows[1])), store(data + 8, halves_low(rows[2], rows[3]));
    store(data + 16, halves_high(rows[0], rows[1])),
        store(data + 24, halves_high(rows[2], rows[3]));
}

// Rows `first` .. `first + 7` of a row-major array with `width` columns, as columns; rows past the
// end repeat the last.
DGR_INLINE void load_columns(const float* data, int64_t first, int64_t count, int width,
                             int columns, f8* out) {
    if (first + 8 <= count && width == columns) {
        const float* all = data + first * width;
        if (columns == 1) return void(*out = load<f8>(all));
        if (columns == 3) return split_threes(all, out);
        if (columns == 4) return split_fours(all, out);
    }
    const float* rows[8];
    for (int i = 0; i < 8; ++i)
        rows[i] = data + (first + i < count ? first + i : count - 1) * width;
    int c = 0;
    for (; c + 8 <= columns; c += 8) {
        f8 block[8];
        for (int i = 0; i < 8; ++i) block[i] = load<f8>(rows[i] + c);
        transpose(block);
        for (int i = 0; i < 8; ++i) out[c + i] = block[i];
    }
    for (; c < columns; ++c) {
        out[c] = f8{rows[0][c], rows[1][c], rows[2][c], rows[3][c],
                    rows[4][c], rows[5][c], rows[6][c], rows[7][c]};
    }
}

DGR_INLINE void store_columns(float* data, int64_t first, int64_t count, int width, int columns,
                              const f8* in) {
    if (first + 8 <= count && width == columns) {
        float* all = data + first * width;
        if (columns == 1) return store(all, *in);
        if (columns == 3) return join_threes(in, all);
        if (columns == 4) return join_fours(in, all);
    }
    const int rows = static_cast<int>(count - first < 8 ? count - first : 8);
    int c = 0;
    for (; c + 8 <= columns; c += 8) {
        f8 block[8];
        for (int i = 0; i < 8; ++i) block[i] = in[c + i];
        transpose(block);
        for (int i = 0; i < rows; ++i) store(data + (first + i) * width + c, block[i]);
    }
    for (; c < columns; ++c) {
        for (int i = 0; i < rows; ++i) data[(first + i) * width + c] = in[c][i];
    }
}
