// The C ABI of dgr.h on a GPU: checks, the device, the order of the stages.
// SPDX-License-Identifier: Apache-2.0
#include <cstdio>

#include "../problem.h"
#include "stages.h"

namespace dgr {
namespace {

thread_local char device_message[256] = "";

int device_error(const char* sentence) {
    std::snprintf(device_message, sizeof device_message, "CUDA: %s", sentence);
    return DGR_DEVICE_ERROR;
}

int status_of(cudaError_t error) {
    if (error == cudaSuccess) return DGR_OK;
    cudaGetLastError();  // it is reported here, and must not turn up again in a later call
    std::snprintf(device_message, sizeof device_message, "CUDA: %s (%s)", cudaGetErrorString(error),
                  cudaGetErrorName(error));
    return error == cudaErrorMemoryAllocation ? DGR_OUT_OF_MEMORY : DGR_DEVICE_ERROR;
}

/// Makes the device that owns `memory` current, for the time of one call, which begins without
/// errors of earlier ones.
class DeviceOf {
  public:
    explicit DeviceOf(const void* memory) {
        cudaGetLastError();  // left by an earlier call: CUB would take it for its own
        cudaPointerAttributes attributes{};
        status_ = status_of(cudaPointerGetAttributes(&attributes, memory));
        if (status_ != DGR_OK) return;
        if (attributes.type != cudaMemoryTypeDevice && attributes.type != cudaMemoryTypeManaged) {
            status_ = device_error("a pointer is not to device memory");
            return;
        }
        status_ = status_of(cudaGetDevice(&previous_));
        if (status_ != DGR_OK || previous_ == attributes.device) return;
        status_ = status_of(cudaSetDevice(attributes.device));
        changed_ = status_ == DGR_OK;
    }
    ~DeviceOf() {
        // The device was current before. Where it cannot be again, the next call that needs it says
        // so.
        if (changed_ && cudaSetDevice(previous_) != cudaSuccess) cudaGetLastError();
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

/// Page-locked memory of this thread, without which a copy to the host would make the queue wait.
/// It is never freed: when the thread ends, the driver may be gone.
int pinned_totals(Totals*& totals) {
    thread_local void* memory = nullptr;
    const int status =
        memory == nullptr ? status_of(cudaHostAlloc(&memory, sizeof(Totals), cudaHostAllocPortable))
                          : DGR_OK;
    totals = static_cast<Totals*>(memory);
    return status;
}

/// Bytes of a workspace: its layout and what CUB wants behind it; 0 where CUB could not say.
size_t with_temporary(size_t layout, cudaError_t asked, size_t temporary) {
    return status_of(asked) == DGR_OK ? layout + temporary : 0;
}

/// The host reads a number in every render; while a graph is captured, nothing runs that would
/// write it.
int refuse_capture(cudaStream_t stream) {
    cudaStreamCaptureStatus capture;
    const int status = status_of(cudaStreamIsCapturing(stream, &capture));
    if (status != DGR_OK || capture == cudaStreamCaptureStatusNone) return status;
    return device_error(
        "a render cannot be captured into a CUDA graph, for the host reads the number of pairs in "
        "it");
}

/// Reads the totals while the depth sort already runs behind them.
int read_totals(const dgr_problem& p, const Geometry& g, size_t temporary_bytes, Totals& result,
                cudaStream_t stream) {
    Totals* totals = nullptr;
    cudaEvent_t copied;
    int status = pinned_totals(totals);
    if (status == DGR_OK)
        status = status_of(cudaEventCreateWithFlags(&copied, cudaEventDisableTiming));
    if (status != DGR_OK) return status;
    status = status_of(
        cudaMemcpyAsync(totals, g.totals, sizeof(Totals), cudaMemcpyDeviceToHost, stream));
    cudaEventRecord(copied, stream);
    if (status == DGR_OK) status = status_of(launch_depth_order(p, g, temporary_bytes, stream));
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
    return status == DGR_DEVICE_ERROR ? device_message : sentence(status);
}

// CUB's share depends on the device, so these two ask on the one that will work.
size_t dgr_geometry_bytes(const dgr_problem* problem) {
    if (!workable(problem)) return device_error(sentence(DGR_INVALID)), 0;
    const DeviceOf device(problem->view);
    if (device.status() != DGR_OK) return 0;
    size_t temporary = 0;
    const cudaError_t asked = geometry_temporary_bytes(*problem, temporary);
    return with_temporary(Geometry(*problem, nullptr).bytes, asked, temporary);
}

size_t dgr_binning_bytes(const dgr_problem* problem, int64_t pairs) {
    if (!workable(problem) || pairs < 0 || pairs > INT32_MAX)
        return device_error(sentence(DGR_INVALID)), 0;
    const DeviceOf device(problem->view);
    if (device.status() != DGR_OK) return 0;
    size_t temporary = 0;
    const cudaError_t asked = binning_temporary_bytes(pairs, temporary);
    return with_temporary(Binning(*problem, pairs, nullptr).bytes, asked, temporary);
}

size_t dgr_scratch_bytes(const dgr_problem* problem, int64_t) {
    return workable(problem) ? Scratch(*problem, nullptr).bytes : 0;
}

int dgr_project(const dgr_problem* problem, void* geometry, size_t geometry_bytes, int32_t* radii,
                int64_t* pairs, void* stream) {
    if (!workable(problem) || pairs == nullptr) return DGR_INVALID;
    *pairs = 0;
    const DeviceOf device(problem->view);
    if (device.status() != DGR_OK) return device.status();
    if (geometry == nullptr || (radii == nullptr && problem->gaussians > 0)) return DGR_INVALID;
    const Geometry g(*problem, geometry);
    if (geometry_bytes < g.bytes) return DGR_INVALID;
    int status = refuse_capture(as_stream(stream));
    if (status != DGR_OK) return status;
    launch_projection(*problem, g, radii, as_stream(stream));
    Totals totals;
    status = read_totals(*problem, g, geometry_bytes - g.bytes, totals, as_stream(stream));
    if (status != DGR_OK) return status;
    if (totals.status != INT32_MAX) return totals.status;
    if (totals.pairs > INT32_MAX) return DGR_TOO_MANY_PAIRS;
    *pairs = static_cast<int64_t>(totals.pairs);
    return DGR_OK;
}

int dgr_render(const dgr_problem* problem, void* geometry, int64_t pairs, void* binning,
               size_t binning_bytes, const dgr_images* images, void* stream) {
    if (!workable(problem) || binning == nullptr || images == nullptr || pairs < 0 ||
        pairs > INT32_MAX)
        return DGR_INVALID;
    if (images->rgb == nullptr || images->depth == nullptr || images->transmittance == nullptr)
        return DGR_INVALID;
    if (pairs > 0 && geometry == nullptr) return DGR_INVALID;
    const DeviceOf device(binning);
    if (device.status() != DGR_OK) return device.status();
    const Geometry g(*problem, geometry);
    const Binning b(*problem, pairs, binning);
    if (binning_bytes < b.bytes) return DGR_INVALID;
    const int status = status_of(
        launch_binning(*problem, g, b, binning_bytes - b.bytes, pairs, as_stream(stream)));
    if (status != DGR_OK) return status;
    launch_render(*problem, g, b, *images, as_stream(stream));
    return status_of(cudaGetLastError());
}

int dgr_backward(const dgr_problem* problem, const void* geometry, int64_t pairs,
                 const void* binning, void* scratch, const float* transmittance,
                 const dgr_image_grads* image_grads, const dgr_grads* grads, void* stream) {
    if (!workable(problem) || image_grads == nullptr || grads == nullptr || pairs < 0)
        return DGR_INVALID;
    if (problem->gaussians == 0) return DGR_OK;
    if (geometry == nullptr || binning == nullptr || scratch == nullptr || transmittance == nullptr)
        return DGR_INVALID;
    const DeviceOf device(geometry);
    if (device.status() != DGR_OK) return device.status();
    const Geometry g(*problem, geometry);
    const Binning b(*problem, pairs, binning);
    const Scratch s(*problem, scratch);
    launch_render_backward(*problem, g, b, s, transmittance, *image_grads, as_stream(stream));
    launch_projection_backward(*problem, g, s, *grads, as_stream(stream));
    return status_of(cudaGetLastError());
}

int dgr_mark_visible(const float* means, int32_t n, const float* view, uint8_t* visible, int32_t,
                     void* stream) {
    if (n < 0) return DGR_INVALID;
    if (n == 0) return DGR_OK;
    if (means == nullptr || view == nullptr || visible == nullptr) return DGR_INVALID;
    const DeviceOf device(means);
    if (device.status() != DGR_OK) return device.status();
    launch_mark_visible(means, n, view, visible, as_stream(stream));
    return status_of(cudaGetLastError());
}
