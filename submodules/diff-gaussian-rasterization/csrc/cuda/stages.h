// The stages of a render, each launched by the file that is named beside it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "workspace.cuh"

namespace dgr {

/// project.cu: splats, rects, counts, depths, numbers, totals and radii of all instances.
void launch_projection(const dgr_problem& p, const Geometry& g, int32_t* radii,
                       cudaStream_t stream);
void launch_mark_visible(const float* means, int32_t n, const float* view, uint8_t* visible,
                         cudaStream_t stream);

/// binning.cu: all instances front to back, with the place of each one's pairs. `temporary_bytes`
/// is what was laid out at `temporary`, here and below: CUB refuses less than it needs.
cudaError_t launch_depth_order(const dgr_problem& p, const Geometry& g, size_t temporary_bytes,
                               cudaStream_t stream);
/// binning.cu: the pairs of each tile, front to back.
cudaError_t launch_binning(const dgr_problem& p, const Geometry& g, const Binning& b,
                           size_t temporary_bytes, int64_t pairs, cudaStream_t stream);

/// render.cu
void launch_render(const dgr_problem& p, const Geometry& g, const Binning& b,
                   const dgr_images& images, cudaStream_t stream);
/// render_backward.cu: fills `rows`.
void launch_render_backward(const dgr_problem& p, const Geometry& g, const Binning& b,
                            const Scratch& s, const float* transmittance,
                            const dgr_image_grads& image_grads, cudaStream_t stream);
/// project_backward.cu: from `rows` to the parameters.
void launch_projection_backward(const dgr_problem& p, const Geometry& g, const Scratch& s,
                                const dgr_grads& grads, cudaStream_t stream);

}  // namespace dgr
