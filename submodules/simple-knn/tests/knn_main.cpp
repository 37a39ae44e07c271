// The search as a program, for a processor that only an emulator runs here: int64 n, int32 k, int32
// threads and float32 [n,3] on standard input; float32 [n] on standard output.
#include <cstdio>
#include <vector>

#include "../csrc/knn.h"

int main() {
    int64_t n;
    int32_t k, threads;
    const auto read = [](void* to, size_t size, size_t count) {
        return std::fread(to, size, count, stdin) == count;
    };
    if (!read(&n, sizeof n, 1) || !read(&k, sizeof k, 1) || !read(&threads, sizeof threads, 1))
        return 1;
    std::vector<float> points(static_cast<size_t>(3 * n)), out(static_cast<size_t>(n));
    if (!read(points.data(), sizeof(float), points.size())) return 1;
    const int status = knn_mean_squared_distance(points.data(), n, k, threads, out.data());
    if (status != 0) return 10 + status;
    return std::fwrite(out.data(), sizeof(float), out.size(), stdout) == out.size() ? 0 : 1;
}
