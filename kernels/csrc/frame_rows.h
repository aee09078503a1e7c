// The pass over the rows, compiled once per instruction-set variant.
//
// The including file defines, in the anonymous namespace of mmedge:
//   void pack_quad(const int32_t weights[4], int32_t packed[4]);
//   void window_sum(const uint32_t* data, ptrdiff_t step, const int32_t* packed, int quads, uint8_t out[kLanes]);
// window_sum reads kLanes words at data, data + step, ..., and writes for each lane the weighted sum of the bytes of
// its words, rounded and clamped to uint8. Both passes are calls of it: in the horizontal pass the lanes are source
// rows, in the vertical pass they are columns and channels.
//
// Everything here has internal linkage and no standard library header is used: code compiled for a newer processor
// must not be picked by the linker for an older one.
#include <string.h>

#include "frame_variant.h"

namespace mmedge {
namespace {

typedef uint8_t Bytes __attribute__((vector_size(16)));
typedef uint32_t Words __attribute__((vector_size(16)));

#if defined(__clang__)
#define MMEDGE_SHUFFLE(type, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define MMEDGE_SHUFFLE(type, a, b, ...) __builtin_shuffle(a, b, type{__VA_ARGS__})
#endif

// 16 bytes that begin with four pixels -> a word of each channel, and a word of no meaning.
inline Words split_channels(const uint8_t* pixels) {
  Bytes bytes;
  memcpy(&bytes, pixels, sizeof bytes);
  bytes = MMEDGE_SHUFFLE(Bytes, bytes, bytes, 0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, 12, 13, 14, 15);
  Words words;
  memcpy(&words, &bytes, sizeof words);
  return words;
}

// Four rows of split_channels -> for each channel the words of the four rows, kLanes words apart.
inline void store_channels(Words a, Words b, Words c, Words d, uint32_t* tile) {
  const Words ab = MMEDGE_SHUFFLE(Words, a, b, 0, 4, 1, 5);
  const Words cd = MMEDGE_SHUFFLE(Words, c, d, 0, 4, 1, 5);
  const Words first = MMEDGE_SHUFFLE(Words, ab, cd, 0, 1, 4, 5);
  const Words second = MMEDGE_SHUFFLE(Words, ab, cd, 2, 3, 6, 7);
  const Words ab_high = MMEDGE_SHUFFLE(Words, a, b, 2, 6, 3, 7);
  const Words cd_high = MMEDGE_SHUFFLE(Words, c, d, 2, 6, 3, 7);
  const Words third = MMEDGE_SHUFFLE(Words, ab_high, cd_high, 0, 1, 4, 5);
  memcpy(tile, &first, sizeof first);
  memcpy(tile + kLanes, &second, sizeof second);
  memcpy(tile + 2 * kLanes, &third, sizeof third);
}

// kLanes source rows -> tile[quad of columns][channel][row]. Bytes behind the last needed column are never read.
void fill_tile(const mmedge_frame_plan& plan, const uint8_t* const rows[kLanes], uint32_t* tile) {
  const int64_t bytes = int64_t{plan.cols} * 3;
  const int64_t quads = (int64_t{plan.cols} + 3) / 4;
  const int64_t whole = bytes < 16 ? 0 : (bytes - 16) / 12 + 1;  // quads whose 16-byte read stays inside the row
  for (int lane = 0; lane < kLanes; lane += 4) {
    const uint8_t* const* row = rows + lane;
    uint32_t* target = tile + lane;
    for (int64_t quad = 0; quad < whole; ++quad, target += 3 * kLanes) {
      const int64_t at = quad * 12;
      store_channels(split_channels(row[0] + at), split_channels(row[1] + at), split_channels(row[2] + at),
                     split_channels(row[3] + at), target);
    }
    for (int64_t quad = whole; quad < quads; ++quad, target += 3 * kLanes) {
      const int64_t at = quad * 12;
      uint8_t tail[4][16] = {};
      for (int i = 0; i < 4; ++i) memcpy(tail[i], row[i] + at, static_cast<size_t>(bytes - at < 12 ? bytes - at : 12));
      store_channels(split_channels(tail[0]), split_channels(tail[1]), split_channels(tail[2]), split_channels(tail[3]),
                     target);
    }
  }
}

// The horizontal pass over kLanes source rows from `quad` (of rows) on -> kGroupQuads lines of the row buffer.
void resample_rows(const mmedge_frame_plan& plan, const uint8_t* frame, int64_t row_stride, int64_t quad,
                   int64_t line_words, uint32_t* tile, uint32_t* lines) {
  const uint8_t* rows[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) {
    int64_t row = quad * 4 + lane;
    if (row >= plan.rows) row = plan.rows - 1;  // its weights are zero
    rows[lane] = frame + (plan.row0 + row) * row_stride + int64_t{plan.col0} * 3;
  }
  fill_tile(plan, rows, tile);
  const mmedge_frame_axis& axis = plan.horizontal;
  for (int32_t x = 0; x < axis.count; ++x) {
    const uint32_t* window = tile + int64_t{axis.first[x]} * 3 * kLanes;
    const int32_t* packed = axis.packed + int64_t{x} * axis.max_quads * 4;
    for (int channel = 0; channel < 3; ++channel) {
      uint8_t sums[kLanes];
      window_sum(window + channel * kLanes, 3 * kLanes, packed, axis.quads[x], sums);
      const int64_t plane = plan.reverse ? 2 - channel : channel;
      uint32_t* target = lines + plane * axis.count + x;
      for (int i = 0; i < kGroupQuads; ++i) memcpy(target + i * line_words, sums + 4 * i, 4);
    }
  }
}

void resample_columns(const mmedge_frame_plan& plan, int32_t y, const uint32_t* lines, int64_t line_words,
                      uint8_t* picture) {
  const mmedge_frame_axis& axis = plan.vertical;
  const int32_t* packed = axis.packed + int64_t{y} * axis.max_quads * 4;
  for (int64_t lane = 0; lane < line_words; lane += kLanes) {
    window_sum(lines + lane, line_words, packed, axis.quads[y], picture + lane);
  }
}

// One output row; picture: the resampled row, its channels one after the other, or null for a row of padding.
template <typename Element>
void write_row(const mmedge_frame_plan& plan, int32_t row, const uint8_t* picture, void* out) {
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
    const uint8_t* samples = count ? picture + channel * count : nullptr;
    for (int64_t x = 0; x < count; ++x) target[(left + x) * step] = values[samples[x]];
    for (int64_t x = left + count; x < width; ++x) target[x * step] = padding;
  }
}

void write_row(const mmedge_frame_plan& plan, int32_t row, const uint8_t* picture, void* out) {
  if (plan.element_bytes == 4) {
    write_row<uint32_t>(plan, row, picture, out);
  } else if (plan.element_bytes == 2) {
    write_row<uint16_t>(plan, row, picture, out);
  } else {
    write_row<uint8_t>(plan, row, picture, out);
  }
}

// The whole path of a band where the horizontal pass comes first.
void run_passes(const mmedge_frame_plan& plan, const ScratchLayout& layout, const uint8_t* frame, int64_t row_stride,
                void* out, int32_t begin, int32_t end, uint32_t* scratch) {
  const int64_t words = layout.line_words;
  uint32_t* tile = scratch;
  uint32_t* buffer = tile + layout.tile_words;
  uint8_t* picture = reinterpret_cast<uint8_t*>(buffer + layout.buffer_quads * words);
  int64_t base = -1;  // quad of rows that the buffer starts with
  int64_t ready = 0;  // first quad of rows that is not in the buffer yet
  for (int32_t row = begin; row < end; ++row) {
    const int32_t y = row - plan.top;
    if (y < 0 || y >= plan.vertical.count) {
      write_row(plan, row, nullptr, out);
      continue;
    }
    const int64_t first = plan.vertical.first[y];
    if (base < 0 || first >= ready) base = ready = first;
    while (ready < first + plan.vertical.quads[y]) {
      if (ready - base + kGroupQuads > layout.buffer_quads) {
        memmove(buffer, buffer + (first - base) * words, static_cast<size_t>((ready - first) * words) * 4);
        base = first;
      }
      resample_rows(plan, frame, row_stride, ready, words, tile, buffer + (ready - base) * words);
      ready += kGroupQuads;
    }
    resample_columns(plan, y, buffer + (first - base) * words, words, picture);
    write_row(plan, row, picture, out);
  }
}

// Four rows of 16 bytes -> 16 words, each with a byte of every row.
inline void interleave(const Bytes rows[4], uint32_t* words) {
  const Bytes ab = MMEDGE_SHUFFLE(Bytes, rows[0], rows[1], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const Bytes cd = MMEDGE_SHUFFLE(Bytes, rows[2], rows[3], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const Bytes ab_high =
      MMEDGE_SHUFFLE(Bytes, rows[0], rows[1], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  const Bytes cd_high =
      MMEDGE_SHUFFLE(Bytes, rows[2], rows[3], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  const Bytes result[4] = {
      MMEDGE_SHUFFLE(Bytes, ab, cd, 0, 1, 16, 17, 2, 3, 18, 19, 4, 5, 20, 21, 6, 7, 22, 23),
      MMEDGE_SHUFFLE(Bytes, ab, cd, 8, 9, 24, 25, 10, 11, 26, 27, 12, 13, 28, 29, 14, 15, 30, 31),
      MMEDGE_SHUFFLE(Bytes, ab_high, cd_high, 0, 1, 16, 17, 2, 3, 18, 19, 4, 5, 20, 21, 6, 7, 22, 23),
      MMEDGE_SHUFFLE(Bytes, ab_high, cd_high, 8, 9, 24, 25, 10, 11, 26, 27, 12, 13, 28, 29, 14, 15, 30, 31)};
  memcpy(words, result, sizeof result);
}

inline Bytes load_lanes(const uint8_t* source, int64_t count) {
  Bytes bytes = {};
  if (count >= kLanes) {
    memcpy(&bytes, source, kLanes);
  } else {
    memcpy(&bytes, source, static_cast<size_t>(count));
  }
  return bytes;
}

// The vertical pass straight on the frame: outputs [begin, end) -> rows of the needed columns, packed.
void resample_frame_columns(const mmedge_frame_plan& plan, const uint8_t* frame, int64_t row_stride, int32_t begin,
                            int32_t end, uint32_t* window, uint8_t* rows) {
  const mmedge_frame_axis& axis = plan.vertical_before;
  const int64_t bytes = int64_t{plan.cols} * 3;
  const uint8_t* corner = frame + plan.row0 * row_stride + int64_t{plan.col0} * 3;
  for (int32_t y = begin; y < end; ++y, rows += bytes) {
    const int32_t* packed = axis.packed + int64_t{y} * axis.max_quads * 4;
    for (int64_t at = 0; at < bytes; at += kLanes) {
      const int64_t count = bytes - at < kLanes ? bytes - at : kLanes;
      for (int64_t quad = 0; quad < axis.quads[y]; ++quad) {
        Bytes lines[4];
        for (int i = 0; i < 4; ++i) {
          int64_t row = (axis.first[y] + quad) * 4 + i;
          if (row >= plan.rows) row = plan.rows - 1;  // its weight is zero
          lines[i] = load_lanes(corner + row * row_stride + at, count);
        }
        interleave(lines, window + quad * kLanes);
      }
      uint8_t sums[kLanes];
      window_sum(window, kLanes, packed, axis.quads[y], sums);
      memcpy(rows + at, sums, static_cast<size_t>(count));
    }
  }
}

void run_rows(const mmedge_frame_plan& plan, const uint8_t* frame, int64_t row_stride, void* out, int32_t begin,
              int32_t end, uint32_t* scratch) {
  const ScratchLayout layout = scratch_layout(plan, end - begin);
  if (plan.vertical_before.count == 0) {
    run_passes(plan, layout, frame, row_stride, out, begin, end, scratch);
    return;
  }
  const auto inside = [&](int32_t row) {
    const int32_t y = row - plan.top;
    return y < 0 ? 0 : y > plan.vertical_before.count ? plan.vertical_before.count : y;
  };
  const int32_t first = inside(begin);
  const int32_t last = inside(end);
  uint8_t* rows = reinterpret_cast<uint8_t*>(scratch + layout.total_words - layout.rows_words);
  uint32_t* window = scratch;
  resample_frame_columns(plan, frame, row_stride, first, last, window, rows);
  mmedge_frame_plan rest = plan;  // what is left to do for the rows that are made now
  rest.row0 = rest.col0 = 0;
  rest.rows = rest.vertical.count = last - first;
  rest.top = plan.top + first;
  run_passes(rest, layout, rows, int64_t{plan.cols} * 3, out, begin, end, window + layout.window_words);
}

void pack(const int32_t* weights, int64_t count, int32_t* packed) {
  for (int64_t i = 0; i < count; ++i) pack_quad(weights + 4 * i, packed + 4 * i);
}

}  // namespace
}  // namespace mmedge
