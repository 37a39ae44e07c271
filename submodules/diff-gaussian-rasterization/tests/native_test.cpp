// The C ABI without Python, for sanitizers: random scenes, both modes, every input path, several
// threads, odd sizes. Checks that results are finite and the same for every number of threads.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "../csrc/dgr.h"

namespace {

struct Case {
    int views, gaussians, width, height, sh_degree;  // sh_degree -1: plain colours
    bool covariances;
    uint32_t flags;
};

// 64-byte aligned bytes, as torch would lend them; exactly as many as asked for, so that an overrun
// is seen.
class Block {
  public:
    explicit Block(size_t bytes)
        : at_(std::aligned_alloc(64, (bytes + 63) / 64 * 64 + 64)), bytes_(bytes) {}
    ~Block() { std::free(at_); }
    Block(const Block&) = delete;
    Block& operator=(const Block&) = delete;
    void* get() const { return at_; }
    size_t bytes() const { return bytes_; }

  private:
    void* at_;
    size_t bytes_;
};

void expect(bool condition, const char* what) {
    if (condition) return;
    std::fprintf(stderr, "failed: %s\n", what);
    std::exit(1);
}

void expect_ok(int status) { expect(status == DGR_OK, dgr_message(status)); }

std::vector<float> render(const Case& c, int threads) {
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    std::uniform_real_distribution<float> uniform;
    const auto fill = [&](size_t n, auto draw) {
        std::vector<float> values(n);
        for (float& value : values) value = draw();
        return values;
    };
    const size_t n = static_cast<size_t>(c.gaussians), v = static_cast<size_t>(c.views);
    const size_t bases =
        c.sh_degree < 0 ? 0 : static_cast<size_t>((c.sh_degree + 1) * (c.sh_degree + 1));
    const size_t pixels = static_cast<size_t>(c.width) * static_cast<size_t>(c.height);
    const auto means = fill(3 * n, [&] { return 0.6f * normal(random); });
    const auto quats = fill(4 * n, [&] { return normal(random); });
    const auto scales = fill(3 * n, [&] { return 0.02f * std::exp(2.5f * uniform(random)); });
    const auto opacities = fill(n, [&] { return uniform(random); });
    const auto colors = fill(3 * n, [&] { return uniform(random); });
    const auto sh = fill(3 * n * bases, [&] { return 0.3f * normal(random); });
    std::vector<float> cov3d(6 * n, 0.0f), view(16 * v, 0.0f), proj(16 * v, 0.0f),
        background(3 * v, 0.5f);
    for (size_t i = 0; i < n; ++i)
        cov3d[6 * i] = cov3d[6 * i + 3] = cov3d[6 * i + 5] = scales[3 * i] * scales[3 * i];
    std::vector<float> tangents(2 * v, 0.5f), positions(3 * v, 0.0f);
    for (size_t i = 0; i < v; ++i) {
        float* m = &view[16 * i];
        const float a = 0.7f * static_cast<float>(i);
        m[0] = m[10] = std::cos(a), m[2] = std::sin(a), m[8] = -m[2], m[5] = m[15] = 1.0f,
        m[11] = 2.0f;
        for (int k = 0; k < 4; ++k) {
            proj[16 * i + k] = m[k] / 0.5f, proj[16 * i + 4 + k] = m[4 + k] / 0.5f,
                          proj[16 * i + 12 + k] = m[8 + k];
        }
        positions[3 * i] = -2.0f * m[8], positions[3 * i + 2] = -2.0f * m[10];
    }

    dgr_problem p = {};
    p.views = c.views, p.gaussians = c.gaussians, p.width = c.width, p.height = c.height;
    p.sh_bases = static_cast<int32_t>(bases), p.sh_degree = c.sh_degree < 0 ? 0 : c.sh_degree;
    p.flags = c.flags, p.threads = threads, p.scale_modifier = 1.0f;
    p.means = means.data(), p.opacities = opacities.data();
    (c.covariances ? p.cov3d : p.quats) = c.covariances ? cov3d.data() : quats.data();
    p.scales = c.covariances ? nullptr : scales.data();
    (bases ? p.sh : p.colors) = bases ? sh.data() : colors.data();
    p.view = view.data(), p.proj = proj.data(), p.tan_half_fov = tangents.data(),
    p.positions = positions.data();
    p.background = background.data();

    Block geometry(dgr_geometry_bytes(&p));
    std::vector<int32_t> radii(v * n);
    int64_t pairs = -1;
    expect_ok(dgr_project(&p, geometry.get(), geometry.bytes(), radii.data(), &pairs, nullptr));
    Block binning(dgr_binning_bytes(&p, pairs));
    std::vector<float> images(v * pixels * 6);
    const dgr_images out = {&images[0], &images[3 * v * pixels], &images[4 * v * pixels],
                            &images[5 * v * pixels]};
    expect_ok(dgr_render(&p, geometry.get(), pairs, binning.get(), binning.bytes(), &out, nullptr));

    const auto incoming = fill(v * pixels * 5, [&] { return normal(random); });
    const dgr_image_grads in = {&incoming[0], &incoming[3 * v * pixels], &incoming[4 * v * pixels],
                                nullptr};
    std::vector<float> g(n * (3 + 4 + 3 + 6 + 1 + 3 + 3 * bases) + 2 * v * n + 1, NAN);
    float* at = g.data();
    const auto next = [&at](size_t count) { return at += count, at - count; };
    dgr_grads grads = {};
    grads.means = next(3 * n), grads.opacities = next(n), grads.screen_means = next(2 * v * n);
    if (c.covariances) grads.cov3d = next(6 * n);
    else grads.quats = next(4 * n), grads.scales = next(3 * n);
    if (bases) grads.sh = next(3 * n * bases);
    else grads.colors = next(3 * n);
    Block scratch(dgr_scratch_bytes(&p, pairs));
    expect_ok(dgr_backward(&p, geometry.get(), pairs, binning.get(), scratch.get(),
                           out.transmittance, &in, &grads, nullptr));

    g.resize(static_cast<size_t>(at - g.data()));
    images.insert(images.end(), g.begin(), g.end());
    for (const float value : images) expect(std::isfinite(value), "all results are finite");
    return images;
}

}  // namespace

int main() {
    const Case cases[] = {
        {1, 0, 5, 7, -1, false, DGR_NORMALIZE_QUATS},
        {1, 1, 1, 1, 0, false, DGR_NORMALIZE_QUATS},
        {2, 300, 33, 65, -1, false, DGR_NORMALIZE_QUATS},
        {1, 700, 64, 31, 3, false, DGR_NORMALIZE_QUATS | DGR_TILES16},
        {3, 129, 47, 50, 2, true, DGR_TILES16 | DGR_ANTIALIASING | DGR_DETACH_DEPTH},
        {1, 5000, 90, 90, 1, false, DGR_CLAMP_PASSES_GRADIENT},
    };
    std::printf("%s\n", dgr_backend_name());
    for (const Case& c : cases) {
        const auto one = render(c, 1);
        for (const int threads : {2, 4}) {
            const auto many = render(c, threads);
            expect(one.size() == many.size() &&
                       std::memcmp(one.data(), many.data(), 4 * one.size()) == 0,
                   "the number of threads changes nothing");
        }
    }
    // Callers in parallel: one of them has the pool, the others run alone.
    const auto want = render(cases[2], 1);
    std::vector<std::thread> callers;
    std::vector<std::vector<float>> results(3);
    for (auto& result : results)
        callers.emplace_back([&result, &cases] { result = render(cases[2], 2); });
    for (auto& caller : callers) caller.join();
    for (const auto& result : results) expect(result == want, "parallel callers get the same");

    const float points[] = {0, 0, 0, 0, 0, 5},
                view[16] = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, -1, 0, 0, 0, 1};
    uint8_t visible[2];
    expect_ok(dgr_mark_visible(points, 2, view, visible, 2, nullptr));
    expect(!visible[0] && visible[1], "markVisible");
    std::puts("ok");
}
