// Perceptrons with one hidden layer over a block of points at a time, which stays in the
// first-level cache; points lie in the lanes. SPDX-License-Identifier: Apache-2.0

constexpr int BLOCK = 2 * LANES;              // points
constexpr int TALL = LANES == 16 ? 8 : 4;     // rows of a product kept in registers
constexpr int WIDE = HGE_MAX_INPUTS + LANES;  // inputs, to whole vectors

// ROWS rows of w [rows, columns] in [columns, BLOCK]; put(r, at, value) takes the points at .. at +
// LANES - 1 of row r while they are in a register.
template <int ROWS, class Put>
HGE_INLINE void product_rows(const float* w, const float* in, int row, int columns,
                             const Put& put) {
    vf sum[ROWS][2] = {};
    for (int c = 0; c < columns; ++c) {
        const vf a = load(in + c * BLOCK), b = load(in + c * BLOCK + LANES);
        for (int r = 0; r < ROWS; ++r) {
            const float weight = w[(row + r) * columns + c];
            sum[r][0] += weight * a, sum[r][1] += weight * b;
        }
    }
    for (int r = 0; r < ROWS; ++r) put(row + r, 0, sum[r][0]), put(row + r, LANES, sum[r][1]);
}

template <class Put>
HGE_INLINE void product(const float* w, const float* in, int rows, int columns, const Put& put) {
    int r = 0;
    for (; r + TALL <= rows; r += TALL) product_rows<TALL>(w, in, r, columns, put);
    for (; r + 2 <= rows; r += 2) product_rows<2>(w, in, r, columns, put);
    for (; r < rows; ++r) product_rows<1>(w, in, r, columns, put);
}

// Where a product goes as it is.
struct Into {
    float* out;
    HGE_INLINE void operator()(int row, int at, vf value) const {
        store(out + row * BLOCK + at, value);
    }
};

// out [rows, wide] += a [rows, BLOCK] b [BLOCK, wide]; rows a multiple of 8, wide of LANES.
static void outer(const float* a, const float* b, int rows, int wide, float* out) {
    constexpr int ACROSS = LANES == 16 ? 2 : 1;
    for (int c = 0; c < wide; c += ACROSS * LANES) {
        const int across = wide - c < ACROSS * LANES ? 1 : ACROSS;
        for (int r = 0; r < rows; r += 8) {
            vf sum[8][ACROSS];
            for (int i = 0; i < 8; ++i) {
                for (int j = 0; j < ACROSS; ++j) {
                    sum[i][j] = j < across ? load(out + (r + i) * wide + c + j * LANES) : vf{};
                }
            }
            for (int p = 0; p < BLOCK; ++p) {
                vf at[ACROSS];
                for (int j = 0; j < ACROSS; ++j)
                    at[j] = load(b + p * WIDE + c + (j < across ? j * LANES : 0));
                for (int i = 0; i < 8; ++i) {
                    for (int j = 0; j < ACROSS; ++j) sum[i][j] += a[(r + i) * BLOCK + p] * at[j];
                }
            }
            for (int i = 0; i < 8; ++i) {
                for (int j = 0; j < across; ++j)
                    store(out + (r + i) * wide + c + j * LANES, sum[i][j]);
            }
        }
    }
}

// Rows of a feature-major array, points [i, i + count), into a block; points beyond count are 0.
static void take_block(const float* data, int rows, int64_t n, int64_t i, int64_t count,
                       float* block) {
    for (int r = 0; r < rows; ++r) {
        const float* row = data + r * n + i;
        store(block + r * BLOCK, load(row, count));
        store(block + r * BLOCK + LANES, count > LANES ? load(row + LANES, count - LANES) : vf{});
    }
}
static void give_block(const float* block, int rows, int64_t n, int64_t i, int64_t count,
                       float* data) {
    for (int r = 0; r < rows; ++r) {
        float* row = data + r * n + i;
        store(row, load(block + r * BLOCK), count);
        if (count > LANES) store(row + LANES, load(block + r * BLOCK + LANES), count - LANES);
    }
}

// block [rows, BLOCK] -> out [BLOCK, WIDE]; rows to whole vectors, those beyond are 0.
static void turn_block(const float* block, int rows, float* out) {
    for (int r = 0; r < rows; r += LANES) {
        for (int p = 0; p < BLOCK; p += LANES) {
            vf square[LANES];
            for (int i = 0; i < LANES; ++i)
                square[i] = r + i < rows ? load(block + (r + i) * BLOCK + p) : vf{};
            transpose(square);
            for (int i = 0; i < LANES; ++i) store(out + (p + i) * WIDE + r, square[i]);
        }
    }
}

static void mlp(const hge_mlp_problem& p, const float* w1_transposed, int64_t begin, int64_t end,
                float* grad_w1, float* grad_w2) {
    alignas(64) float y[HGE_MAX_INPUTS * BLOCK], x_other[HGE_MAX_INPUTS * BLOCK],
        turned[BLOCK * WIDE];
    alignas(64) float hidden[HGE_MAX_HIDDEN * BLOCK], grad_hidden[HGE_MAX_HIDDEN * BLOCK];
    alignas(64) float out[HGE_MAX_OUTPUTS * BLOCK], grad_out[HGE_MAX_OUTPUTS * BLOCK];
    alignas(64) float sums_w1[HGE_MAX_HIDDEN * WIDE];
    vf sums_w2[HGE_MAX_OUTPUTS * HGE_MAX_HIDDEN];
    const int I = p.inputs, H = p.hidden, O = p.outputs, wide = (I + LANES - 1) / LANES * LANES;
    const bool same = p.x == p.y, back = p.grad_x || grad_w1;
    if (grad_w1) std::memset(sums_w1, 0, sizeof(float) * H * wide);
    if (grad_w2) std::memset(sums_w2, 0, sizeof(vf) * O * H);
    for (int64_t i = begin; i < end; i += BLOCK) {
        const int64_t count = end - i;
        take_block(p.y, I, p.n, i, count, y);
        if (p.grad_out) take_block(p.grad_out, O, p.n, i, count, grad_out);
        const auto relu = [&](int h, int at, vf value) HGE_ALWAYS {
            store(hidden + h * BLOCK + at, maximum(vf{}, value));  // keeps NaN
        };
        const auto relu_and_gradient = [&](int h, int at, vf value) HGE_ALWAYS {
            vf sum = {};
            for (int o = 0; o < O; ++o) sum += p.w2[o * H + h] * load(grad_out + o * BLOCK + at);
            store(grad_hidden + h * BLOCK + at, keep(value > 0.0f, sum));
            relu(h, at, value);
        };
        if (back) {
            product(p.w1, y, H, I, relu_and_gradient);
        } else {
            product(p.w1, y, H, I, relu);
        }
        const float* x = y;
        if (!same) {
            // The mask is that of y; the values are those of x.
            take_block(p.x, I, p.n, i, count, x_other);
            x = x_other;
            if (p.out || grad_w2) {
                product(p.w1, x, H, I, [&](int h, int at, vf value) HGE_ALWAYS {
                    float* place = hidden + h * BLOCK + at;
                    store(place, keep(load(place) > 0.0f, value));
                });
            }
        }
        if (p.out) {
            product(p.w2, hidden, O, H, Into{out});
            give_block(out, O, p.n, i, count, p.out);
        }
        if (p.grad_x) {
            // y has been used; its place is as large.
            float* result = same ? x_other : y;
            product(w1_transposed, grad_hidden, I, H, Into{result});
            give_block(result, I, p.n, i, count, p.grad_x);
        }
        if (grad_w1) {
            turn_block(x, I, turned);
            outer(grad_hidden, turned, H, wide, sums_w1);
        }
        if (grad_w2) {
            for (int o = 0; o < O; ++o) {
                const vf a = load(grad_out + o * BLOCK), b = load(grad_out + o * BLOCK + LANES);
                for (int h = 0; h < H; ++h) {
                    sums_w2[o * H + h] +=
                        a * load(hidden + h * BLOCK) + b * load(hidden + h * BLOCK + LANES);
                }
            }
        }
    }
    if (grad_w1) {
        for (int h = 0; h < H; ++h)
            std::memcpy(grad_w1 + h * I, sums_w1 + h * wide, sizeof(float) * I);
    }
    if (grad_w2) {
        for (int at = 0; at < O * H; ++at) {
            float sum = 0.0f;
            for (int lane = 0; lane < LANES; ++lane) sum += sums_w2[at][lane];
            grad_w2[at] = sum;
        }
    }
}
