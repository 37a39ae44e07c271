// The C ABI of dgr.h on a GPU: checks, the device, the order of the stages. SPDX-License-Identifier: Apache-2.0
#include <cstdio>

#include "../problem.h"
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

/// Sorts and prefix sums count in 32 bits.
bool workable(const dgr_problem* p) {
    return valid(p) && instances(*p) <= INT32_MAX && Tiling(*p).all <= INT32_MAX;
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

const char* dgr_message(int status) { return status == DGR_DEVICE_ERROR ? device_message : sentence(status); }

// CUB's share depends on the device, so these two ask on the one that will work.
size_t dgr_geometry_bytes(const dgr_problem* problem) {
    if (!workable(problem)) return 0;
    const DeviceOf device(problem->view);
    if (device.status() != DGR_OK) return 0;
    return Geometry(*problem, nullptr).bytes + geometry_temporary_bytes(*problem);
}

size_t dgr_binning_bytes(const dgr_problem* problem, int64_t pairs) {
    if (!workable(problem) || pairs < 0 || pairs > INT32_MAX) return 0;
    const DeviceOf device(problem->view);
    if (device.status() != DGR_OK) return 0;
    return Binning(*problem, pairs, nullptr).bytes + binning_temporary_bytes(pairs);
}

size_t dgr_scratch_bytes(const dgr_problem* problem, int64_t) {
    return workable(problem) ? Scratch(*problem, nullptr).bytes : 0;
}

int dgr_project(const dgr_problem* problem, void* geometry, int32_t* radii, int64_t* pairs, void* stream) {
    if (!workable(problem) || pairs == nullptr) return DGR_INVALID;
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
    if (!workable(problem) || binning == nullptr || images == nullptr || pairs < 0 || pairs > INT32_MAX)
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
    if (!workable(problem) || image_grads == nullptr || grads == nullptr || pairs < 0) return DGR_INVALID;
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
