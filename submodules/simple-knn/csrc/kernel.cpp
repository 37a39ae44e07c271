// All-nearest-neighbours in three dimensions.
//
// A k-d tree whose leaves hold exactly eight points. A leaf's eight points are searched together,
// one per vector lane: a candidate point is broadcast, its eight distances go through a sorting
// network of min/max, and there is no branch inside a leaf. A subtree is skipped when its box is
// too far away for all eight lanes.
//
// Exactness: the distance is ((dx*dx + dy*dy) + dz*dz) in float32, and a box's bound is the same
// expression on the box's nearest corner. Each of its operations is monotone under rounding (this
// file is built with -ffp-contract=off), so the bound never exceeds a distance inside the box, and
// the result is bit for bit the brute-force one, on every instruction set and for every number of
// threads.
#include "kernel.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__AVX__)
#include <immintrin.h>
#endif

namespace knn::KNN_ISA {
namespace {

constexpr int kLanes = 8;
constexpr float kInfinity = std::numeric_limits<float>::infinity();
typedef float Float8 __attribute__((vector_size(32)));
typedef int32_t Int8 __attribute__((vector_size(32)));

struct Point {
    float xyz[3];
    int32_t index;  // row of the caller's array
};

struct alignas(32) Leaf {
    Float8 x, y, z;  // unused lanes repeat the first point
    int32_t index[kLanes];
};

struct Box {
    float lo[3], hi[3];
};

inline Float8 min(Float8 a, Float8 b) { return a < b ? a : b; }
inline Float8 max(Float8 a, Float8 b) { return a > b ? a : b; }
inline Float8 broadcast(float a) { return Float8{} + a; }

inline bool any(Int8 mask) {
#if defined(__AVX__)
    __m256 bits;
    std::memcpy(&bits, &mask, sizeof bits);
    return _mm256_movemask_ps(bits) != 0;
#else
    int64_t words[4];
    std::memcpy(words, &mask, sizeof words);
    return (words[0] | words[1] | words[2] | words[3]) != 0;
#endif
}

// A thread that runs `work`; where the system has none to give, the work is done here and now.
template <typename Work>
std::thread start(Work work) {
    try {
        return std::thread(work);
    } catch (const std::system_error&) {
        work();
        return {};
    }
}

// The subtree over m leaves takes 2m - 1 consecutive nodes: itself, its left subtree, its right
// subtree.
inline int64_t left_leaves(int64_t leaves) { return (leaves + 1) / 2; }

// The value near the wanted rank among evenly spaced samples.
float sampled_pivot(const Point* points, int64_t begin, int64_t middle, int64_t end, int axis) {
    constexpr int kSamples = 15;
    float samples[kSamples];
    const int64_t n = end - begin;
    for (int i = 0; i < kSamples; ++i)
        samples[i] = points[begin + (2 * i + 1) * n / (2 * kSamples)].xyz[axis];
    const int rank = static_cast<int>((middle - begin) * kSamples / n);
    std::nth_element(samples, samples + rank, samples + kSamples);
    return samples[rank];
}

template <typename Before>
int64_t partition(Point* points, int64_t begin, int64_t end, Before before) {
    int64_t store = begin;
    for (int64_t i = begin; i < end; ++i) {
        const Point p = points[i];
        points[i] = points[store];
        points[store] = p;
        store += before(p);
    }
    return store;
}

// Moves the points of [begin, end) whose coordinate is smallest before `middle`, as
// std::nth_element does. The partition has no branch on the data, which makes the whole build about
// twice as fast.
void select(Point* points, int64_t begin, int64_t middle, int64_t end, int axis) {
    constexpr int64_t kFew = 24;
    while (end - begin > kFew) {
        const float pivot = sampled_pivot(points, begin, middle, end, axis);
        int64_t store =
            partition(points, begin, end, [=](const Point& p) { return p.xyz[axis] < pivot; });
        if (store > middle) {
            end = store;
        } else if (store > begin) {
            begin = store;
        } else {  // the pivot is the smallest value: set its equals aside, or many duplicates would
                  // stop us here
            begin =
                partition(points, begin, end, [=](const Point& p) { return p.xyz[axis] == pivot; });
            if (begin > middle) return;
        }
    }
    std::nth_element(points + begin, points + middle, points + end,
                     [axis](const Point& a, const Point& b) { return a.xyz[axis] < b.xyz[axis]; });
}

class Tree {
  public:
    Tree(const float* points, int64_t n, int threads)
        : n_(n), leaves_((n + kLanes - 1) / kLanes), boxes_(2 * leaves_.size() - 1) {
        std::vector<Point> sorted(n);
        for (int64_t i = 0; i < n; ++i) {
            sorted[i] = {{points[3 * i], points[3 * i + 1], points[3 * i + 2]},
                         static_cast<int32_t>(i)};
        }
        build(sorted, 0, 0, static_cast<int64_t>(leaves_.size()), threads);
    }

    int64_t n() const { return n_; }
    int64_t leaf_count() const { return static_cast<int64_t>(leaves_.size()); }
    int used_lanes(int64_t leaf) const {
        return static_cast<int>(std::min<int64_t>(kLanes, n_ - leaf * kLanes));
    }
    const Leaf& leaf(int64_t i) const { return leaves_[i]; }
    const Box& box(int64_t node) const { return boxes_[node]; }

  private:
    void build(std::vector<Point>& points, int64_t node, int64_t first_leaf, int64_t leaves,
               int threads) {
        const int64_t begin = first_leaf * kLanes, end = std::min(n_, begin + leaves * kLanes);
        Box box{{kInfinity, kInfinity, kInfinity}, {-kInfinity, -kInfinity, -kInfinity}};
        for (int64_t i = begin; i < end; ++i) {
            for (int a = 0; a < 3; ++a) {
                box.lo[a] = std::min(box.lo[a], points[i].xyz[a]);
                box.hi[a] = std::max(box.hi[a], points[i].xyz[a]);
            }
        }
        boxes_[node] = box;
        if (leaves == 1) {
            fill(leaves_[first_leaf], &points[begin], static_cast<int>(end - begin));
            return;
        }
        int axis = 0;
        for (int a = 1; a < 3; ++a) {
            if (box.hi[a] - box.lo[a] > box.hi[axis] - box.lo[axis]) axis = a;
        }
        const int64_t left = left_leaves(leaves), middle = begin + left * kLanes;
        select(points.data(), begin, middle, end, axis);
        const auto build_right = [=, &points](int t) {
            build(points, node + 2 * left, first_leaf + left, leaves - left, t);
        };
        if (threads > 1) {
            std::thread other = start([=] { build_right(threads / 2); });
            build(points, node + 1, first_leaf, left, threads - threads / 2);
            if (other.joinable()) other.join();
        } else {
            build(points, node + 1, first_leaf, left, 1);
            build_right(1);
        }
    }

    static void fill(Leaf& leaf, const Point* points, int count) {
        for (int lane = 0; lane < kLanes; ++lane) {
            const Point& p = points[lane < count ? lane : 0];
            leaf.x[lane] = p.xyz[0];
            leaf.y[lane] = p.xyz[1];
            leaf.z[lane] = p.xyz[2];
            leaf.index[lane] = p.index;
        }
    }

    int64_t n_;
    std::vector<Leaf> leaves_;
    std::vector<Box> boxes_;
};

/// The eight points of one leaf looking for their neighbours. K > 0 fixes k at compile time.
template <int K>
class Search {
  public:
    Search(const Tree& tree, int k) : tree_(tree), k_(K > 0 ? K : k) {}

    void run(int64_t own, float* out) {
        own_ = own;
        const Leaf& leaf = tree_.leaf(own);
        x_ = leaf.x;
        y_ = leaf.y;
        z_ = leaf.z;
        for (int j = 0; j < k_; ++j) nearest_[j] = broadcast(kInfinity);
        descend_to_own(0, 0, tree_.leaf_count());

        const int neighbours = static_cast<int>(std::min<int64_t>(k_, tree_.n() - 1));
        Float8 sum{};
        for (int j = 0; j < neighbours; ++j) sum += nearest_[j];
        const Float8 mean = neighbours > 0 ? sum / static_cast<float>(neighbours) : sum;
        const int used = tree_.used_lanes(own);
        for (int lane = 0; lane < used; ++lane) out[leaf.index[lane]] = mean[lane];
    }

  private:
    // The path to the own leaf first, so that the bound is tight before anything else is looked at.
    void descend_to_own(int64_t node, int64_t first, int64_t leaves) {
        if (leaves == 1) return visit_own();
        const int64_t left = left_leaves(leaves);
        if (own_ < first + left) {
            descend_to_own(node + 1, first, left);
            descend(node + 2 * left, first + left, leaves - left);
        } else {
            descend_to_own(node + 2 * left, first + left, leaves - left);
            descend(node + 1, first, left);
        }
    }

    void descend(int64_t node, int64_t first, int64_t leaves) {
        if (!any(bound(tree_.box(node)) < nearest_[k_ - 1])) return;
        if (leaves == 1) return visit(first);
        const int64_t left = left_leaves(leaves);
        // Towards the own leaf, which lies wholly on one side in the order of the leaves.
        if (own_ < first) {
            descend(node + 1, first, left);
            descend(node + 2 * left, first + left, leaves - left);
        } else {
            descend(node + 2 * left, first + left, leaves - left);
            descend(node + 1, first, left);
        }
    }

    Float8 bound(const Box& box) const {
        const Float8 zero{};
        const Float8 dx = max(max(box.lo[0] - x_, x_ - box.hi[0]), zero);
        const Float8 dy = max(max(box.lo[1] - y_, y_ - box.hi[1]), zero);
        const Float8 dz = max(max(box.lo[2] - z_, z_ - box.hi[2]), zero);
        return dx * dx + dy * dy + dz * dz;
    }

    Float8 squared_distance(const Leaf& leaf, int lane) const {
        const Float8 dx = x_ - leaf.x[lane], dy = y_ - leaf.y[lane], dz = z_ - leaf.z[lane];
        return dx * dx + dy * dy + dz * dz;
    }

    void insert(Float8 d) {
        for (int j = k_ - 1; j > 0; --j) nearest_[j] = min(nearest_[j], max(nearest_[j - 1], d));
        nearest_[0] = min(nearest_[0], d);
    }

    void visit(int64_t other) {
        const Leaf& leaf = tree_.leaf(other);
        const int used = tree_.used_lanes(other);
        for (int lane = 0; lane < used; ++lane) insert(squared_distance(leaf, lane));
    }

    void visit_own() {
        const Leaf& leaf = tree_.leaf(own_);
        const int used = tree_.used_lanes(own_);
        for (int lane = 0; lane < used; ++lane) {
            Float8 d = squared_distance(leaf, lane);
            d[lane] = kInfinity;  // a point is not its own neighbour; a duplicate of it is
            insert(d);
        }
    }

    const Tree& tree_;
    const int k_;
    int64_t own_ = 0;
    Float8 x_, y_, z_;
    Float8 nearest_[K > 0 ? K : kMaxNeighbours];  // ascending, per lane
};

template <int K>
void search_leaves(const Tree& tree, int k, int64_t begin, int64_t end, float* out) {
    Search<K> search(tree, k);
    for (int64_t leaf = begin; leaf < end; ++leaf) search.run(leaf, out);
}

}  // namespace

void mean_squared_distance(const float* points, int64_t n, int k, int threads, float* out) {
    constexpr int64_t kWorthAThread =
        8192;  // points; below, starting a thread costs more than it saves
    threads = static_cast<int>(std::max<int64_t>(1, std::min<int64_t>(threads, n / kWorthAThread)));
    const Tree tree(points, n, threads);
    const auto search = k == 3 ? search_leaves<3> : search_leaves<0>;
    std::vector<std::thread> others;
    others.reserve(threads);
    for (int t = 1; t < threads; ++t) {
        const int64_t begin = tree.leaf_count() * t / threads,
                      end = tree.leaf_count() * (t + 1) / threads;
        others.push_back(start([=, &tree] { search(tree, k, begin, end, out); }));
    }
    search(tree, k, 0, tree.leaf_count() / threads, out);
    for (std::thread& other : others) {
        if (other.joinable()) other.join();
    }
}

}  // namespace knn::KNN_ISA
