// Rows of points become rows of features. SPDX-License-Identifier: Apache-2.0

// Points [begin, end): `features` of each row of in [n, stride] -> out [features, n].
static void turn(const float* in, int features, int64_t stride, int64_t n, int64_t begin,
                 int64_t end, float* out) {
    int64_t p = begin;
    if (features >= LANES) {
        for (; p + LANES <= end; p += LANES) {
            for (int done = 0; done < features; done += LANES) {
                // The last square of features overlaps the one before.
                const int first = done + LANES <= features ? done : features - LANES;
                vf square[LANES];
                for (int i = 0; i < LANES; ++i) square[i] = load(in + (p + i) * stride + first);
                transpose(square);
                for (int i = 0; i < LANES; ++i) store(out + (first + i) * n + p, square[i]);
            }
        }
    }
    for (; p < end; ++p) {
        for (int f = 0; f < features; ++f) out[f * n + p] = in[p * stride + f];
    }
}
