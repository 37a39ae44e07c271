// Rows of points become rows of features. SPDX-License-Identifier: Apache-2.0

// Points [begin, end): the first `features` of rows of in [n, stride] -> out [features, pitch],
// whose first column is point `begin`.
static void turn(const float* in, int features, int64_t stride, int64_t begin, int64_t end,
                 float* out, int64_t pitch) {
    int64_t p = begin;
    if (features >= 8) {
        for (; p + LANES <= end; p += LANES) {
            for (int done = 0; done < features; done += 8) {
                // The last eight overlap those before.
                const int first = done + 8 <= features ? done : features - 8;
                vf rows[8];
                for (int i = 0; i < 8; ++i) {
                    const float* row = in + (p + i) * stride + first;
                    rows[i] = load_eights(row, row + 8 * stride);
                }
                transpose_eight(rows);
                for (int i = 0; i < 8; ++i) store(out + (first + i) * pitch + p - begin, rows[i]);
            }
        }
    }
    for (; p < end; ++p) {
        for (int f = 0; f < features; ++f) out[f * pitch + p - begin] = in[p * stride + f];
    }
}
