// The pass over the rows, compiled once per instruction-set variant.
//
// The including file defines, in the anonymous namespace of mmedge:
//   void pack_quad(const int32_t weights[4], int32_t packed[4]);
//   struct Group: kLanes weighted sums, zero when constructed.
//     void add(const uint32_t* data, const int32_t* packed): adds the four weighted bytes of each of kLanes words.
//     void store(uint8_t out[kLanes]) const: the sums, rounded and clamped to uint8.
//   constexpr int kGroupsTogether: how many of them fit into the registers.
// Both passes are such sums; the lanes of the horizontal pass are source rows, those of the vertical pass columns.
//
// Everything here has internal linkage and no standard library header is used: code compiled for a newer processor
// must not be picked by the linker for an older one.
#include "frame_formats.h"

namespace mmedge {
namespace {

// The last quads of a long line of them, as far as windows that only move forward still need them.
struct SlidingQuads {
  uint32_t* words;
  int64_t quad_words;
  int64_t capacity;   // at least the longest window and one fill
  int64_t base = 0;   // the quad at `words`
  int64_t ready = 0;  // the first quad that is not there yet

  SlidingQuads(uint32_t* words_, int64_t quad_words_, int64_t capacity_)
      : words(words_), quad_words(quad_words_), capacity(capacity_) {}

  // From quad `first` on at least all before `end`; fill(quad, target) makes `step` of them from `quad` on.
  template <typename Fill>
  const uint32_t* window(int64_t first, int64_t end, int64_t step, const Fill& fill) {
    if (first >= ready) base = ready = first;
    while (ready < end) {
      if (ready - base + step > capacity) {
        memmove(words, words + (first - base) * quad_words, static_cast<size_t>((ready - first) * quad_words) * 4);
        base = first;
      }
      fill(ready, words + (ready - base) * quad_words);
      ready += step;
    }
    return words + (first - base) * quad_words;
  }
};

// For each of kGroups * kLanes words the sum over the words at data, data + step, ...: one byte each.
template <int kGroups>
inline void window_sums(const uint32_t* data, ptrdiff_t step, const int32_t* packed, int quads, uint8_t* out) {
  if constexpr (kGroups > kGroupsTogether) {
    for (int i = 0; i < kGroups; ++i) window_sums<1>(data + i * kLanes, step, packed, quads, out + i * kLanes);
  } else {
    Group groups[kGroups];
    for (int quad = 0; quad < quads; ++quad, data += step, packed += 4) {
      for (int i = 0; i < kGroups; ++i) groups[i].add(data + i * kLanes, packed);
    }
    for (int i = 0; i < kGroups; ++i) groups[i].store(out + i * kLanes);
  }
}

// The same for all words of a line, in whole lanes.
inline void line_sums(const uint32_t* data, int64_t line_words, const int32_t* packed, int quads, uint8_t* out) {
  constexpr int64_t kTogether = kGroupsTogether * kLanes;
  int64_t at = 0;
  for (; at + kTogether <= line_words; at += kTogether) {
    window_sums<kGroupsTogether>(data + at, line_words, packed, quads, out + at);
  }
  for (; at < line_words; at += kLanes) window_sums<1>(data + at, line_words, packed, quads, out + at);
}

// The horizontal pass over kLanes source rows from `quad` (of rows) on -> kGroupQuads lines of the row buffer.
template <typename Format>
void resample_rows(const mmedge_frame_plan& plan, const ScratchLayout& layout, const Picture& picture, int64_t quad,
                   uint32_t* tile, uint32_t* lines) {
  constexpr int kChannels = Format::kChannels;
  constexpr int64_t kQuadWords = kChannels * kLanes;
  // Copies, because the compiler must take it that the lines may lie over the plan.
  const mmedge_frame_axis axis = plan.horizontal;
  const int64_t line_words = layout.line_words;
  uint32_t* planes[kChannels];
  for (int channel = 0; channel < kChannels; ++channel) {
    planes[channel] = lines + (plan.format == MMEDGE_FRAME_BGR ? 2 - channel : channel) * int64_t{axis.count};
  }
  const Rows rows(picture, quad * 4, kLanes);
  for (int64_t col = 0; col < picture.cols; col += kLanes) {
    for (int lane = 0; lane < kLanes; lane += 4) {
      Format::fill_tile(rows, lane, col, tile + col / 4 * kQuadWords + lane);
    }
  }
  const int32_t* packed = axis.packed;
  for (int32_t x = 0; x < axis.count; ++x, packed += axis.quads * 4) {
    const uint32_t* window = tile + axis.first[x] * kQuadWords;
    uint8_t sums[kQuadWords];
    window_sums<kChannels>(window, kQuadWords, packed, axis.quads, sums);
    for (int channel = 0; channel < kChannels; ++channel) {
      uint32_t* target = planes[channel] + x;
      for (int i = 0; i < kGroupQuads; ++i) memcpy(target + i * line_words, sums + channel * kLanes + 4 * i, 4);
    }
  }
}

// One output row; picture: the resampled row, its channels `plane` samples apart, or null for a row of padding.
template <typename Element>
void write_row(const mmedge_frame_plan& plan, int32_t row, const uint8_t* picture, int64_t plane, void* out) {
  const int64_t width = plan.width;
  const int64_t left = plan.left;
  const int64_t count = picture ? plan.horizontal.count : 0;
  const int64_t step = plan.channels_last ? 3 : 1;
  for (int channel = 0; channel < 3; ++channel) {
    const Element* values = static_cast<const Element*>(plan.values) + channel * 256;
    Element* target = static_cast<Element*>(out) +
                      (plan.channels_last ? row * width * 3 + channel : (int64_t{plan.height} * channel + row) * width);
    const Element padding = values[plan.pad_value];
    for (int64_t x = 0; x < left; ++x) target[x * step] = padding;
    const uint8_t* samples = count ? picture + channel * plane : nullptr;
    for (int64_t x = 0; x < count; ++x) target[(left + x) * step] = values[samples[x]];
    for (int64_t x = left + count; x < width; ++x) target[x * step] = padding;
  }
}

void write_row(const mmedge_frame_plan& plan, int32_t row, const uint8_t* picture, int64_t plane, void* out) {
  if (plan.element_bytes == 4) {
    write_row<uint32_t>(plan, row, picture, plane, out);
  } else if (plan.element_bytes == 2) {
    write_row<uint16_t>(plan, row, picture, plane, out);
  } else {
    write_row<uint8_t>(plan, row, picture, plane, out);
  }
}

// Output rows [begin, end) of a picture whose horizontal pass comes next.
template <typename Format>
void run_passes(const mmedge_frame_plan& plan, const ScratchLayout& layout, const Picture& picture, void* out,
                int32_t begin, int32_t end, uint32_t* scratch) {
  const mmedge_frame_axis& axis = plan.vertical;
  uint32_t* tile = scratch;
  SlidingQuads lines(tile + layout.tile_words, layout.line_words, layout.buffer_quads);
  uint8_t* sums = reinterpret_cast<uint8_t*>(lines.words + layout.buffer_quads * layout.line_words);
  const int64_t plane = Format::kChannels == 1 ? 0 : plan.horizontal.count;
  const auto fill = [&](int64_t quad, uint32_t* target) {
    resample_rows<Format>(plan, layout, picture, quad, tile, target);
  };
  for (int32_t row = begin; row < end; ++row) {
    const int32_t y = row - plan.top;
    if (y < 0 || y >= axis.count) {
      write_row(plan, row, nullptr, plane, out);
      continue;
    }
    const uint32_t* window = lines.window(axis.first[y], axis.first[y] + axis.quads, kGroupQuads, fill);
    line_sums(window, layout.line_words, axis.packed + int64_t{y} * axis.quads * 4, axis.quads, sums);
    write_row(plan, row, sums, plane, out);
  }
}

// The vertical pass straight on the frame, a strip of columns at a time: outputs [begin, end) -> rows, one after the
// other, each of Format::kChannels times picture.cols bytes.
template <typename Format>
void resample_columns(const mmedge_frame_axis& axis, const ScratchLayout& layout, const Picture& picture,
                      int32_t begin, int32_t end, uint32_t* strip_words, uint8_t* rows) {
  constexpr int64_t kQuadWords = kStripColumns * Format::kChannels;
  for (int64_t strip = 0; strip < picture.cols; strip += kStripColumns) {
    const int64_t columns = picture.cols - strip < kStripColumns ? picture.cols - strip : kStripColumns;
    SlidingQuads quads(strip_words, kQuadWords, layout.strip_quads);
    const auto fill = [&](int64_t quad, uint32_t* target) {
      const Rows four(picture, quad * 4, 4);
      for (int64_t at = 0; at < columns; at += kLanes) Format::fill_strip(four, strip + at, target + at, kStripColumns);
    };
    for (int32_t y = begin; y < end; ++y) {
      const uint32_t* window = quads.window(axis.first[y], axis.first[y] + axis.quads, 1, fill);
      const int32_t* packed = axis.packed + int64_t{y} * axis.quads * 4;
      for (int channel = 0; channel < Format::kChannels; ++channel) {
        uint8_t* target = rows + (int64_t{y - begin} * Format::kChannels + channel) * picture.cols + strip;
        for (int64_t at = 0; at < columns; at += kLanes) {
          uint8_t sums[kLanes];
          window_sums<1>(window + channel * kStripColumns + at, kQuadWords, packed, axis.quads, sums);
          memcpy(target + at, sums, static_cast<size_t>(columns - at < kLanes ? columns - at : kLanes));
        }
      }
    }
  }
}

// A band where the vertical pass comes first: Before is the format as that pass takes it, with `columns` columns, After
// that of the rows that it makes.
template <typename Before, typename After>
void run_vertical_first(const mmedge_frame_plan& plan, const ScratchLayout& layout, Picture picture, int64_t columns,
                        void* out, int32_t begin, int32_t end, uint32_t* scratch) {
  const mmedge_frame_axis& axis = plan.vertical_before;
  const auto inside = [&](int32_t row) {
    const int32_t y = row - plan.top;
    return y < 0 ? 0 : y > axis.count ? axis.count : y;
  };
  const int32_t first = inside(begin);
  const int32_t last = inside(end);
  uint8_t* rows = reinterpret_cast<uint8_t*>(scratch + layout.total_words - layout.rows_words);
  picture.cols = columns;
  resample_columns<Before>(axis, layout, picture, first, last, scratch, rows);
  mmedge_frame_plan rest = plan;  // what is left to do for the rows that are made now
  rest.vertical.count = last - first;
  rest.top = plan.top + first;
  const Picture made = {rows, rows, int64_t{plan.cols} * After::kChannels, last - first, plan.cols};
  run_passes<After>(rest, layout, made, out, begin, end, scratch + layout.strip_quads * layout.strip_words);
}

void run_rows(const mmedge_frame_plan& plan, const uint8_t* frame, int64_t row_stride, void* out, int32_t begin,
              int32_t end, uint32_t* scratch) {
  const ScratchLayout layout = scratch_layout(plan, end - begin);
  const int64_t first_byte = plan.col0 * pixel_bytes(plan.format);
  const Picture picture = {frame + plan.row0 * row_stride + first_byte,
                           frame + (plan.chroma_row + plan.row0 / 2) * row_stride + first_byte, row_stride, plan.rows,
                           plan.cols};
  const auto run = [&](auto before, auto format, auto after, int64_t columns) {
    if (plan.vertical_before.count == 0) {
      run_passes<decltype(format)>(plan, layout, picture, out, begin, end, scratch);
    } else {
      run_vertical_first<decltype(before), decltype(after)>(plan, layout, picture, columns, out, begin, end, scratch);
    }
  };
  switch (plan.format) {
    case MMEDGE_FRAME_GREY: return run(Planar<1>{}, Planar<1>{}, Planar<1>{}, plan.cols);
    case MMEDGE_FRAME_NV12: return run(Yuv<Nv12>{}, Yuv<Nv12>{}, Planar<3>{}, plan.cols);
    case MMEDGE_FRAME_YUYV: return run(Yuv<Yuyv>{}, Yuv<Yuyv>{}, Planar<3>{}, plan.cols);
    default: return run(Planar<1>{}, Interleaved{}, Interleaved{}, int64_t{plan.cols} * 3);
  }
}

void pack(const int32_t* weights, int64_t count, int32_t* packed) {
  for (int64_t i = 0; i < count; ++i) pack_quad(weights + 4 * i, packed + 4 * i);
}

}  // namespace
}  // namespace mmedge
