// What one instruction-set variant offers to the dispatcher, and the sizes both of them agree on.
#pragma once

#include "frame.h"

namespace mmedge {

constexpr int kPrecisionBits = 22;          // fraction bits of a weight
constexpr int32_t kRound = 1 << (kPrecisionBits - 1);
constexpr int kLanes = 16;                  // sums computed side by side
constexpr int kGroupQuads = kLanes / 4;     // quads of source rows that one horizontal step produces
constexpr int kSpareQuads = 16;             // room that keeps the moving of the row buffer rare

// Working memory of one band, in 32-bit words.
struct ScratchLayout {
  int64_t line_words;  // one row of the resampled picture, its channels one after the other, in whole lanes
  int64_t tile_words;
  int64_t buffer_quads;
  int64_t window_words;   // one window of the vertical pass that comes first
  int64_t rows_words;     // and the rows it makes
  int64_t total_words;
};

// band_rows: output rows of a band at most.
inline ScratchLayout scratch_layout(const mmedge_frame_plan& plan, int64_t band_rows) {
  ScratchLayout layout{};
  layout.line_words = (int64_t{plan.horizontal.count} * 3 + kLanes - 1) / kLanes * kLanes;
  layout.tile_words = (int64_t{plan.cols} + 3) / 4 * 3 * kLanes;
  layout.buffer_quads = int64_t{plan.vertical.max_quads} + kGroupQuads + kSpareQuads;
  layout.window_words = int64_t{plan.vertical_before.max_quads} * kLanes;
  layout.rows_words = plan.vertical_before.count ? (band_rows * plan.cols * 3 + 3) / 4 : 0;
  layout.total_words = layout.window_words + layout.tile_words + layout.buffer_quads * layout.line_words +
                       layout.line_words / 4 + layout.rows_words;
  layout.total_words = (layout.total_words + kLanes - 1) / kLanes * kLanes;
  return layout;
}

struct Variant {
  const char* name;
  bool (*supported)();
  void (*pack)(const int32_t* weights, int64_t count, int32_t* packed);
  // Writes output rows [begin, end). scratch: scratch_layout(plan, end - begin).total_words words.
  void (*run_rows)(const mmedge_frame_plan& plan, const uint8_t* frame, int64_t row_stride, void* out, int32_t begin,
                   int32_t end, uint32_t* scratch);
};

}  // namespace mmedge
