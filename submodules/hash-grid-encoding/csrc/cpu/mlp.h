// Perceptrons with one hidden layer over a block of points at a time, which stays in the
// first-level cache; points lie in the lanes. SPDX-License-Identifier: Apache-2.0

constexpr int BLOCK = 2 * LANES;              // points
constexpr int TALL = LANES == 16 ? 8 : 4;     // rows of a product kept in registers
constexpr int WIDE = HGE_MAX_INPUTS + LANES;  // inputs, to whole vectors

// A tile of ROWS rows and a block of points, in registers.
template <int ROWS>
using Tile = vf[ROWS][2];

// Rows of w [rows, columns] in [columns, BLOCK], tile by tile: use(row, tile) takes those from
// `row` on while they are in registers.
template <int ROWS, class Use>
HGE_INLINE void product_tile(const float* w, const float* in, int row, int columns,
                             const Use& use) {
    Tile<ROWS> sum = {};
    for (int c = 0; c < columns; ++c) {
        const vf a = load(in + c * BLOCK), b = load(in + c * BLOCK + LANES);
        for (int r = 0; r < ROWS; ++r) {
            const float weight = w[(row + r) * columns + c];
            sum[r][0] += weight * a, sum[r][1] += weight * b;
        }
    }
    use(row, sum);
}

template <class Use>
HGE_INLINE void product(const float* w, const float* in, int rows, int columns, const Use& use) {
    int r = 0;
    for (; r + TALL <= rows; r += TALL) product_tile<TALL>(w, in, r, columns, use);
    for (; r + 2 <= rows; r += 2) product_tile<2>(w, in, r, columns, use);
    for (; r < rows; ++r) product_tile<1>(w, in, r, columns, use);
}

// out [rows, wide] += a [rows, BLOCK] b [BLOCK, wide] for eight rows, FULL vectors of columns and,
// if HALF, eight columns more.
template <int FULL, bool HALF>
HGE_INLINE void outer_tile(const float* a, const float* b, int wide, float* out) {
    vf sum[8][FULL + 1];
    v8 half[8];
    for (int i = 0; i < 8; ++i) {
        for (int j = 0; j < FULL; ++j) sum[i][j] = load(out + i * wide + j * LANES);
        if (HALF) half[i] = load_eight(out + i * wide + FULL * LANES);
    }
    for (int p = 0; p < BLOCK; ++p) {
        vf at[FULL + 1];
        for (int j = 0; j < FULL; ++j) at[j] = load(b + p * WIDE + j * LANES);
        const v8 rest = HALF ? load_eight(b + p * WIDE + FULL * LANES) : v8{};
        for (int i = 0; i < 8; ++i) {
            const float weight = a[i * BLOCK + p];
            for (int j = 0; j < FULL; ++j) sum[i][j] += weight * at[j];
            if (HALF) half[i] += weight * rest;
        }
    }
    for (int i = 0; i < 8; ++i) {
        for (int j = 0; j < FULL; ++j) store(out + i * wide + j * LANES, sum[i][j]);
        if (HALF) store_eight(out + i * wide + FULL * LANES, half[i]);
    }
}

// The same for all; rows and wide multiples of 8.
static void outer(const float* a, const float* b, int rows, int wide, float* out) {
    constexpr int MOST = LANES == 16 ? 2 : 1;
    for (int c = 0, step; c < wide; c += step) {
        const int left = wide - c;
        step = left >= MOST * LANES ? MOST * LANES : left;
        const auto tile = left >= MOST * LANES ? outer_tile<MOST, false>
                          : left > LANES       ? outer_tile<1, true>
                          : left == LANES      ? outer_tile<1, false>
                                               : outer_tile<0, true>;
        for (int r = 0; r < rows; r += 8) tile(a + r * BLOCK, b + c, wide, out + r * wide + c);
    }
}

// Rows of a feature-major array, points [i, i + count), into a block; points beyond count are 0.
static void take_block(const float* data, int rows, int64_t n, int64_t i, int64_t count,
                       float* block) {
    for (int r = 0; r < rows; ++r) {
        const float* row = data + r * n + i;
        __builtin_prefetch(row + BLOCK), __builtin_prefetch(row + BLOCK + LANES);  // the next block
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

// block [rows, BLOCK] -> out [BLOCK, WIDE]; rows to whole eights, those beyond are 0.
static void turn_block(const float* block, int rows, float* out) {
    for (int r = 0; r < rows; r += 8) {
        for (int p = 0; p < BLOCK; p += LANES) {
            vf eight[8];
            for (int i = 0; i < 8; ++i)
                eight[i] = r + i < rows ? load(block + (r + i) * BLOCK + p) : vf{};
            transpose_eight(eight);
            for (int i = 0; i < 8; ++i)
                store_eights(out + (p + i) * WIDE + r, out + (p + i + 8) * WIDE + r, eight[i]);
        }
    }
}

// Where hidden units are on in a block of points: bits of 16 points at a time, [BLOCK / 16, H].
template <class T>
struct On {
    T* at;
    int hidden;

    HGE_INLINE vi lanes(int h, int half) const {
        if constexpr (LANES == 16) return spread(at[half * hidden + h]);
        return spread(at[h] >> (half * LANES));
    }
    HGE_INLINE void set(int h, vi low, vi high) const {
        if constexpr (LANES == 16) {
            at[h] = static_cast<T>(bits(low)), at[hidden + h] = static_cast<T>(bits(high));
        } else {
            at[h] = static_cast<T>(bits(low) | bits(high) << LANES);
        }
    }
};

// A head's share of what stands beside a block of points.
struct Share {
    hge_head head;
    float *out, *grad_out;  // [O, BLOCK]
    float* grad_hidden;     // [H, BLOCK]; null: no gradient comes from here
    vf* sums_w2;            // [O, H]

    // With one output, the hidden units' gradients are all the output's, times a weight. The weight
    // is left out of grad_hidden: then the sums for w1 hold all that w2's gradient takes as well.
    HGE_INLINE bool single() const { return head.outputs == 1; }

    // What the hidden units of a tile, h and those behind it, are used for while they are in
    // registers: their part of the output,
    template <int ROWS>
    HGE_INLINE void give(int h, const Tile<ROWS>& tile) const {
        for (int o = 0; o < head.outputs; ++o) {
            const float* w2 = head.w2 + o * head.hidden + h;
            vf a = load(out + o * BLOCK), b = load(out + o * BLOCK + LANES);
            for (int r = 0; r < ROWS; ++r) a += w2[r] * tile[r][0], b += w2[r] * tile[r][1];
            store(out + o * BLOCK, a), store(out + o * BLOCK + LANES, b);
        }
    }
    // and the gradient of the weights behind them.
    template <int ROWS>
    HGE_INLINE void weigh(int h, const Tile<ROWS>& tile) const {
        for (int o = 0; o < head.outputs; ++o) {
            const vf a = load(grad_out + o * BLOCK), b = load(grad_out + o * BLOCK + LANES);
            vf* sum = sums_w2 + o * head.hidden + h;
            for (int r = 0; r < ROWS; ++r) sum[r] += a * tile[r][0] + b * tile[r][1];
        }
    }

    // The hidden layer's own gradient.
    HGE_INLINE void go_back(const On<const uint16_t>& on) const {
        for (int k = 0; k < 2; ++k) {
            const vf first = load(grad_out + k * LANES);
            float* at = grad_hidden + k * LANES;
            for (int h = 0; h < head.hidden; ++h, at += BLOCK) {
                vf sum = first;
                if (!single()) {
                    sum = head.w2[h] * first;
                    for (int o = 1; o < head.outputs; ++o)
                        sum +=
                            head.w2[o * head.hidden + h] * load(grad_out + o * BLOCK + k * LANES);
                }
                store(at, keep(on.lanes(h, k), sum));
            }
        }
    }

    // The hidden layer of x, by ReLU.
    HGE_INLINE void run(const float* x, int inputs, const On<uint16_t>& on) const {
        product(head.w1, x, head.hidden, inputs, [&](int h, auto& tile) HGE_ALWAYS {
            int at = h;
            for (auto& row : tile) {
                if (on.at) on.set(at++, row[0] > 0.0f, row[1] > 0.0f);
                for (vf& value : row) value = maximum(vf{}, value);  // keeps NaN
            }
            if (head.out) give(h, tile);
        });
    }
    // The same where it is known which units are on.
    HGE_INLINE void run(const float* x, int inputs, const On<const uint16_t>& on) const {
        product(head.w1, x, head.hidden, inputs, [&](int h, auto& tile) HGE_ALWAYS {
            int at = h;
            for (auto& row : tile) {
                for (int k = 0; k < 2; ++k) row[k] = keep(on.lanes(at, k), row[k]);
                ++at;
            }
            if (head.out) give(h, tile);
            if (sums_w2) weigh(h, tile);
        });
    }
};

static void mlp(const hge_mlp_problem& p, const float* w1_transposed, int64_t begin, int64_t end,
                float* grads) {
    alignas(64) float x[HGE_MAX_INPUTS * BLOCK], grad_x[HGE_MAX_INPUTS * BLOCK],
        turned[BLOCK * WIDE];
    alignas(64) float grad_hidden[HGE_MAX_HIDDEN * BLOCK];
    alignas(64) float out[HGE_MAX_OUTPUTS * BLOCK], grad_out[HGE_MAX_OUTPUTS * BLOCK];
    alignas(64) float sums_w1[HGE_MAX_HIDDEN * WIDE];
    vf sums_w2[HGE_MAX_OUTPUTS * HGE_MAX_HIDDEN];
    const int I = p.inputs, wide = (I + 7) / 8 * 8;

    Share shares[HGE_MAX_HEADS];
    int outputs = 0, products = 0, live = 0;  // live: hidden units with a gradient
    bool any_w1 = false;
    for (int k = 0; k < p.heads; ++k) {
        const hge_head& head = p.head[k];
        const bool back = goes_back(p, head), w1 = back && (head.grad_w1 || head.grad_w2);
        shares[k] = {head, out + outputs * BLOCK, grad_out + outputs * BLOCK,
                     back ? grad_hidden + live * BLOCK : nullptr,
                     head.grad_w2 && head.outputs > 1 ? sums_w2 + products : nullptr};
        outputs += head.outputs, products += head.hidden * head.outputs;
        if (back) live += head.hidden;
        any_w1 = any_w1 || w1;
    }
    if (any_w1) std::memset(sums_w1, 0, sizeof(float) * live * wide);
    std::memset(sums_w2, 0, sizeof(vf) * products);

    for (int64_t i = begin; i < end; i += BLOCK) {
        const int64_t count = end - i;
        take_block(p.x, I, p.n, i, count, x);
        for (int k = 0; k < p.heads; ++k) {
            const Share& share = shares[k];
            const hge_head& head = share.head;
            const int64_t first = i / 16 * head.hidden;  // of the bits
            if (head.grad_out)
                take_block(head.grad_out, head.outputs, p.n, i, count, share.grad_out);
            if (head.out) std::memset(share.out, 0, sizeof(float) * head.outputs * BLOCK);
            if (head.on_in) {
                const On<const uint16_t> on{head.on_in + first, head.hidden};
                if (share.grad_hidden) share.go_back(on);
                if (head.out || share.sums_w2) share.run(x, I, on);
            } else if (head.out || head.on_out) {
                share.run(x, I,
                          On<uint16_t>{head.on_out ? head.on_out + first : nullptr, head.hidden});
            }
            if (head.out) give_block(share.out, head.outputs, p.n, i, count, head.out);
        }
        if (any_w1) {
            turn_block(x, I, turned);
            outer(grad_hidden, turned, live, wide, sums_w1);
        }
        if (p.grad_x) {
            product(w1_transposed, grad_hidden, I, live, [&](int row, auto& tile) HGE_ALWAYS {
                for (const auto& values : tile) {
                    float* at = grad_x + row++ * BLOCK;
                    store(at, values[0]), store(at + LANES, values[1]);
                }
            });
            give_block(grad_x, I, p.n, i, count, p.grad_x);
        }
    }

    // All weights' gradients, head by head, wanted or not.
    const float* from = sums_w1;
    for (int k = 0; grads && k < p.heads; ++k) {
        const Share& share = shares[k];
        const int H = share.head.hidden, O = share.head.outputs;
        float *w1 = grads, *w2 = grads + H * I;
        grads = w2 + O * H;
        for (int h = 0; share.grad_hidden && any_w1 && h < H; ++h, from += wide) {
            float product = 0.0f;
            for (int i = 0; i < I; ++i) {
                w1[h * I + i] = share.single() ? share.head.w2[h] * from[i] : from[i];
                product += share.head.w1[h * I + i] * from[i];
            }
            if (share.single()) w2[h] = product;
        }
        for (int at = 0; share.sums_w2 && at < O * H; ++at) {
            float sum = 0.0f;
            for (int lane = 0; lane < LANES; ++lane) sum += share.sums_w2[at][lane];
            w2[at] = sum;
        }
    }
}
