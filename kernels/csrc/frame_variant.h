// What one instruction-set variant offers to the dispatcher, and the sizes both of them agree on.
#pragma once

#include "frame.h"

namespace mmedge {

constexpr int kPrecisionBits = 22;          // fraction bits of a weight
constexpr int32_t kRound = 1 << (kPrecisionBits - 1);
constexpr int kLanes = 16;                  // sums computed side by side, and columns that are loaded at once
constexpr int kGroupQuads = kLanes / 4;     // quads of a group of kLanes rows or columns
constexpr int kSpareQuads = 16;             // room that keeps the moving of a sliding window rare
constexpr int64_t kStripColumns = 256;      // columns that the vertical pass, where it comes first, takes together

// Working memory of one band, in 32-bit words.
struct ScratchLayout {
  int64_t channels;       // that are resampled
  int64_t line_words;     // one row of the resampled picture, its channels one after the other, in whole lanes
  int64_t tile_words;     // kLanes rows of the frame
  int64_t buffer_quads;   // window of rows
  int64_t strip_quads;    // window of rows of the vertical pass that comes first
  int64_t strip_words;    // and one quad of it
  int64_t rows_words;     // the rows that pass makes
  int64_t total_words;
};

// band_rows: output rows of a band at most.
inline ScratchLayout scratch_layout(const mmedge_frame_plan& plan, int64_t band_rows) {
  ScratchLayout layout{};
  layout.channels = plan.format == MMEDGE_FRAME_GREY ? 1 : 3;
  layout.line_words = (plan.horizontal.count * layout.channels + kLanes - 1) / kLanes * kLanes;
  layout.tile_words = (int64_t{plan.cols} + kLanes - 1) / kLanes * kGroupQuads * layout.channels * kLanes;
  layout.buffer_quads = int64_t{plan.vertical.quads} + kGroupQuads + kSpareQuads;
  layout.total_words = layout.tile_words + layout.buffer_quads * layout.line_words +
                       layout.line_words / 4;
  if (plan.vertical_before.count != 0) {
    layout.strip_quads = int64_t{plan.vertical_before.quads} + 1 + kSpareQuads;
    layout.strip_words = kStripColumns * layout.channels;
    layout.rows_words = (band_rows * plan.cols * layout.channels + 3) / 4;
    layout.total_words += layout.strip_quads * layout.strip_words + layout.rows_words;
  }
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
