// Calls the C ABI for a process that cannot load the library itself, such as one of another
// architecture: requests come through standard input, answers go through standard output
// (tests/remote.py). SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <vector>

#include "../csrc/dgr.h"

namespace {

// The memory of one request, 64-byte aligned as torch lends it.
class Memory {
  public:
    Memory() = default;
    ~Memory() {
        for (void* block : blocks_) std::free(block);
    }
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;

    void* blank(size_t bytes) {
        if (bytes == 0) return nullptr;
        blocks_.push_back(std::aligned_alloc(64, (bytes + 63) / 64 * 64));
        if (blocks_.back() == nullptr) std::abort();
        return blocks_.back();
    }

  private:
    std::vector<void*> blocks_;
};

void read(void* to, size_t bytes) {
    if (bytes > 0 && std::fread(to, 1, bytes, stdin) != bytes) std::exit(1);
}

void write(const void* from, size_t bytes) {
    if (bytes > 0 && std::fwrite(from, 1, bytes, stdout) != bytes) std::exit(1);
}

template <class T>
T take() {
    T value;
    read(&value, sizeof value);
    return value;
}

void* take_block(Memory& memory) {
    const auto bytes = take<uint64_t>();
    void* block = memory.blank(bytes);
    read(block, bytes);
    return block;
}

// On the wire a struct's pointers are byte counts (0 for null).
size_t bytes_of(const float* field) { return reinterpret_cast<size_t>(field); }

void fill(Memory& memory, std::initializer_list<const float**> fields) {
    for (const float** field : fields) {
        const size_t bytes = bytes_of(*field);
        void* block = memory.blank(bytes);
        read(block, bytes);
        *field = static_cast<const float*>(block);
    }
}

struct Output {
    float** field;
    size_t bytes;
};

std::vector<Output> allocate(Memory& memory, std::initializer_list<float**> fields) {
    std::vector<Output> outputs;
    for (float** field : fields) {
        outputs.push_back({field, bytes_of(*field)});
        *field = static_cast<float*>(memory.blank(outputs.back().bytes));
    }
    return outputs;
}

dgr_problem take_problem(Memory& memory) {
    auto p = take<dgr_problem>();
    fill(memory, {&p.means, &p.quats, &p.scales, &p.cov3d, &p.opacities, &p.colors, &p.sh, &p.view,
                  &p.proj, &p.tan_half_fov, &p.positions, &p.background});
    return p;
}

void project(Memory& memory) {
    const dgr_problem p = take_problem(memory);
    const auto bytes = take<uint64_t>(), radii_bytes = take<uint64_t>();
    void *geometry = memory.blank(bytes), *radii = memory.blank(radii_bytes);
    int64_t pairs = 0;
    const int status =
        dgr_project(&p, geometry, bytes, static_cast<int32_t*>(radii), &pairs, nullptr);
    write(&status, sizeof status);
    write(&pairs, sizeof pairs);
    write(geometry, bytes);
    write(radii, radii_bytes);
}

void render(Memory& memory) {
    const dgr_problem p = take_problem(memory);
    const auto geometry_bytes = take<uint64_t>();
    void* geometry = memory.blank(geometry_bytes);
    read(geometry, geometry_bytes);
    const auto pairs = take<int64_t>();
    const auto binning_bytes = take<uint64_t>();
    void* binning = memory.blank(binning_bytes);
    auto images = take<dgr_images>();
    const auto outputs =
        allocate(memory, {&images.rgb, &images.alpha, &images.depth, &images.transmittance});
    const int status = dgr_render(&p, geometry, pairs, binning, binning_bytes, &images, nullptr);
    write(&status, sizeof status);
    write(geometry, geometry_bytes);
    write(binning, binning_bytes);
    for (const Output& output : outputs) write(*output.field, output.bytes);
}

void backward(Memory& memory) {
    const dgr_problem p = take_problem(memory);
    const void* geometry = take_block(memory);
    const auto pairs = take<int64_t>();
    const void* binning = take_block(memory);
    void* scratch = memory.blank(take<uint64_t>());
    const auto* transmittance = static_cast<const float*>(take_block(memory));
    auto in = take<dgr_image_grads>();
    fill(memory, {&in.rgb, &in.alpha, &in.depth, &in.transmittance});
    auto out = take<dgr_grads>();
    const auto outputs =
        allocate(memory, {&out.means, &out.quats, &out.scales, &out.cov3d, &out.opacities,
                          &out.colors, &out.sh, &out.screen_means});
    const int status =
        dgr_backward(&p, geometry, pairs, binning, scratch, transmittance, &in, &out, nullptr);
    write(&status, sizeof status);
    for (const Output& output : outputs) write(*output.field, output.bytes);
}

void mark_visible(Memory& memory) {
    const auto* means = static_cast<const float*>(take_block(memory));
    const auto* view = static_cast<const float*>(take_block(memory));
    const auto n = take<int32_t>(), threads = take<int32_t>();
    auto* visible = static_cast<uint8_t*>(memory.blank(static_cast<size_t>(n)));
    const int status = dgr_mark_visible(means, n, view, visible, threads, nullptr);
    write(&status, sizeof status);
    write(visible, static_cast<size_t>(n));
}

void sizes(Memory& memory) {
    const dgr_problem p = take_problem(memory);
    const auto pairs = take<int64_t>();
    const uint64_t bytes[3] = {dgr_geometry_bytes(&p), dgr_binning_bytes(&p, pairs),
                               dgr_scratch_bytes(&p, pairs)};
    write(bytes, sizeof bytes);
}

}  // namespace

int main() {
    for (int operation; (operation = std::getchar()) != EOF; std::fflush(stdout)) {
        Memory memory;
        switch (operation) {
            case 'N':
                std::printf("%s %d\n", dgr_backend_name(), dgr_abi_version());
                break;
            case 'S':
                sizes(memory);
                break;
            case 'P':
                project(memory);
                break;
            case 'R':
                render(memory);
                break;
            case 'B':
                backward(memory);
                break;
            case 'V':
                mark_visible(memory);
                break;
            default:
                return 1;
        }
    }
}
