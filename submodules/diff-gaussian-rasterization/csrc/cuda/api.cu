// The C ABI of dgr.h on a GPU: checks, the device, the order of the stages. SPDX-License-Identifier: Apache-2.0
#include <cstdio>

#include "stages.h"

namespace dgr {
namespace {

thread_local char device_message[256] = "";

int status_of(cudaError_t error) {
    if (error == cudaSuccess) return DGR_OK;
    std::snprintf(device_message, sizeof device_message, "CUDA: %s (%s)", cudaGetErrorString(error),
                  cudaGetErrorName(error));
    return error == cudaErrorMemoryAllocation ? DGR_OUT_OF_MEMORY : DGR_DEVICE_ERROR;
}

/// Makes the device that owns `memory` current, for the time of one call.
class DeviceOf {
  public:
    explicit DeviceOf(const void* memory) {
        cudaPointerAttributes attributes{};
        status_ = status_of(cudaPointerGetAttributes(&attributes, memory));
        if (status_ != DGR_OK) return;
        if (attributes.type != cudaMemoryTypeDevice && attributes.type != cudaMemoryTypeManaged) {
            std::snprintf(device_message, sizeof device_message, "CUDA: a pointer is not to device memory");
            status_ = DGR_DEVICE_ERROR;
            return;
        }
        cudaGetDevice(&previous_);
        if (previous_ != attributes.device) status_ = status_of(cudaSetDevice(attributes.device));
        changed_ = previous_ != attributes.device;
    }
    ~DeviceOf() {
        if (changed_) cudaSetDevice(previous_);
    }
    DeviceOf(const DeviceOf&) = delete;
    DeviceOf& operator=(const DeviceOf&) = delete;

    int status() const { return status_; }

  private:
    int status_ = DGR_OK, previous_ = 0;
    bool changed_ = false;
};

bool valid(const dgr_problem* p) {
    constexpr int32_t kMaxSize = 32768;  // tile coordinates are kept in 16 bits
    if (p == nullptr || p->views < 1 || p->gaussians < 0) return false;
    if (p->width < 1 || p->height < 1 || p->width > kMaxSize || p->height > kMaxSize) return false;
    if (instances(*p) > INT32_MAX || Tiling(*p).all > INT32_MAX) return false;
    if (!p->view || !p->tan_half_fov || !p->background) return false;
    if (p->gaussians == 0) return true;
    if (p->means == nullptr || p->opacities == nullptr) return false;
    if ((p->colors == nullptr) == (p->sh == nullptr)) return false;
    if ((p->quats == nullptr) != (p->scales == nullptr) || (p->cov3d == nullptr) == (p->scales == nullptr))
        return false;
    if (p->sh == nullptr) return true;
    return p->sh_degree >= 0 && p->sh_degree <= 3 && p->sh_bases >= (p->sh_degree + 1) * (p->sh_degree + 1);
}

cudaStream_t as_stream(void* stream) { return static_cast<cudaStream_t>(stream); }

/// Page-locked memory of this thread, without which a copy to the host would make the queue wait. It is never freed:
/// when the thread ends, the driver may be gone.
int pinned_totals(Totals*& totals) {
    thread_local void* memory = nullptr;
    const int status =
        memory == nullptr ? status_of(cudaHostAlloc(&memory, sizeof(Totals), cudaHostAllocPortable)) : DGR_OK;
    totals = static_cast<Totals*>(memory);
    return status;
}

/// Reads the totals while the depth sort already runs behind them.
int read_totals(const dgr_problem& p, const Geometry& g, Totals& result, cudaStream_t stream) {
    Totals* totals = nullptr;
    cudaEvent_t copied;
    int status = pinned_totals(totals);
    if (status == DGR_OK) status = status_of(cudaEventCreateWithFlags(&copied, cudaEventDisableTiming));
    if (status != DGR_OK) return status;
    status = status_of(cudaMemcpyAsync(totals, g.totals, sizeof(Totals), cudaMemcpyDeviceToHost, stream));
    cudaEventRecord(copied, stream);
    if (status == DGR_OK) status = status_of(launch_depth_order(p, g, stream));
    if (status == DGR_OK) status = status_of(cudaEventSynchronize(copied));
    cudaEventDestroy(copied);
    result = *totals;
    return status == DGR_OK ? status_of(cudaGetLastError()) : status;
}

}  // namespace
}  // namespace dgr

using namespace dgr;

int dgr_abi_version(void) { return DGR_ABI_VERSION; }

const char* dgr_backend_name(void) { return kBackendName; }

const char* dgr_message(int status) {
    switch (status) {
        case DGR_OK: return "no error";
        case DGR_INVALID: return "a size or a combination of inputs is not valid";
        case DGR_TOO_MANY_PAIRS:
            return "more than 2^31 - 1 pairs of a splat and a tile: use fewer or smaller splats, or fewer views";
        case DGR_OUT_OF_MEMORY: return "out of device memory";
        case DGR_DEVICE_ERROR: return device_message;
        case DGR_NONFINITE_MEANS: return "means contains NaN or infinity";
        case DGR_NONFINITE_QUATS: return "quats contains NaN or infinity";
        case DGR_NONFINITE_SCALES: return "scales contains NaN or infinity";
        case DGR_NONFINITE_COV3D: return "cov3d contains NaN or infinity";
        case DGR_NONFINITE_OPACITIES: return "opacities contains NaN or infinity";
        case DGR_NONFINITE_COLORS: return "colors contains NaN or infinity";
        case DGR_NONFINITE_SH: return "sh contains NaN or infinity";
        case DGR_NONFINITE_VIEW: return "view contains NaN or infinity";
        case DGR_NONFINITE_TAN_HALF_FOV: return "tan_half_fov contains NaN or infinity";
        case DGR_NONPOSITIVE_TAN_HALF_FOV: return "tan_half_fov must be positive";
        case DGR_NONFINITE_PROJ: return "proj contains NaN or infinity";
        case DGR_NONFINITE_POSITIONS: return "positions contains NaN or infinity";
        case DGR_NONFINITE_BACKGROUND: return "background contains NaN or infinity";
        default: return "unknown status";
    }
}

// CUB's share depends on the device, so these two ask on the one that will work.
size_t dgr_geometry_bytes(const dgr_problem* problem) {
    if (!valid(problem)) return 0;
    const DeviceOf device(problem->view);
    if (device.status() != DGR_OK) return 0;
    return Geometry(*problem, nullptr).bytes + geometry_temporary_bytes(*problem);
}

size_t dgr_binning_bytes(const dgr_problem* problem, int64_t pairs) {
    if (!valid(problem) || pairs < 0 || pairs > INT32_MAX) return 0;
    const DeviceOf device(problem->view);
    if (device.status() != DGR_OK) return 0;
    return Binning(*problem, pairs, nullptr).bytes + binning_temporary_bytes(pairs);
}

size_t dgr_scratch_bytes(const dgr_problem* problem, int64_t) {
    return valid(problem) ? Scratch(*problem, nullptr).bytes : 0;
}

int dgr_project(const dgr_problem* problem, void* geometry, int32_t* radii, int64_t* pairs, void* stream) {
    if (!valid(problem) || pairs == nullptr) return DGR_INVALID;
    *pairs = 0;
    const DeviceOf device(problem->view);
    if (device.status() != DGR_OK) return device.status();
    if (geometry == nullptr || (radii == nullptr && problem->gaussians > 0)) return DGR_INVALID;
    const Geometry g(*problem, geometry);
    launch_projection(*problem, g, radii, as_stream(stream));
    Totals totals;
    const int status = read_totals(*problem, g, totals, as_stream(stream));
    if (status != DGR_OK) return status;
    if (totals.status != INT32_MAX) return totals.status;
    if (totals.pairs > INT32_MAX) return DGR_TOO_MANY_PAIRS;
    *pairs = static_cast<int64_t>(totals.pairs);
    return DGR_OK;
}

int dgr_render(const dgr_problem* problem, void* geometry, int64_t pairs, void* binning, const dgr_images* images,
               void* stream) {
    if (!valid(problem) || binning == nullptr || images == nullptr || pairs < 0 || pairs > INT32_MAX)
        return DGR_INVALID;
    if (images->rgb == nullptr || images->depth == nullptr || images->transmittance == nullptr) return DGR_INVALID;
    if (pairs > 0 && geometry == nullptr) return DGR_INVALID;
    const DeviceOf device(binning);
    if (device.status() != DGR_OK) return device.status();
    const Geometry g(*problem, geometry);
    const Binning b(*problem, pairs, binning);
    const int status = status_of(launch_binning(*problem, g, b, pairs, as_stream(stream)));
    if (status != DGR_OK) return status;
    launch_render(*problem, g, b, *images, as_stream(stream));
    return status_of(cudaGetLastError());
}

int dgr_backward(const dgr_problem* problem, const void* geometry, int64_t pairs, const void* binning, void* scratch,
                 const float* transmittance, const dgr_image_grads* image_grads, const dgr_grads* grads, void* stream) {
    if (!valid(problem) || image_grads == nullptr || grads == nullptr || pairs < 0) return DGR_INVALID;
    if (problem->gaussians == 0) return DGR_OK;
    if (geometry == nullptr || binning == nullptr || scratch == nullptr || transmittance == nullptr) return DGR_INVALID;
    const DeviceOf device(geometry);
    if (device.status() != DGR_OK) return device.status();
    const Geometry g(*problem, geometry);
    const Binning b(*problem, pairs, binning);
    const Scratch s(*problem, scratch);
    launch_render_backward(*problem, g, b, s, transmittance, *image_grads, as_stream(stream));
    launch_projection_backward(*problem, g, s, *grads, as_stream(stream));
    return status_of(cudaGetLastError());
}

int dgr_mark_visible(const float* means, int32_t n, const float* view, uint8_t* visible, int32_t, void* stream) {
    if (n < 0) return DGR_INVALID;
    if (n == 0) return DGR_OK;
    if (means == nullptr || view == nullptr || visible == nullptr) return DGR_INVALID;
    const DeviceOf device(means);
    if (device.status() != DGR_OK) return device.status();
    launch_mark_visible(means, n, view, visible, as_stream(stream));
    return status_of(cudaGetLastError());
}
