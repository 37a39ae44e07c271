// The cells that a ray's steps lie in, without a branch: the compiler makes vectors of them.
// SPDX-License-Identifier: Apache-2.0

static void cells(const Line& line, int side, int64_t begin, int count, int32_t* cell) {
    const double from = static_cast<double>(begin);
    const auto axis = [&](double t, int k) HGE_ALWAYS {
        const double at = line.origin[k] + t * line.slope[k];
        const double inside = at < 0.0 ? 0.0 : at > 1.0 ? 1.0 : at;
        const int32_t whole = static_cast<int32_t>(inside * side);
        return whole < side ? whole : side - 1;
    };
    for (int i = 0; i < count; ++i) {
        const double t = line.first + (from + i) * line.step;
        cell[i] = (axis(t, 0) * side + axis(t, 1)) * side + axis(t, 2);
    }
}
