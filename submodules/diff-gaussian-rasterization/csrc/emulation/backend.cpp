// The CUDA backend for the host emulation: the same sources, one translation unit.
// SPDX-License-Identifier: Apache-2.0
#include "../cuda/api.cu"
#include "../cuda/binning.cu"
#include "../cuda/project.cu"
#include "../cuda/project_backward.cu"
#include "../cuda/render.cu"
#include "../cuda/render_backward.cu"

/// The calling thread's.
extern "C" DGR_API dgr::emulation::Runtime* dgr_emulated_runtime() {
    return &dgr::emulation::runtime;
}
