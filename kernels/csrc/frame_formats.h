// The layouts of frames: how four rows of sixteen pixels come into vectors, one for each channel.
#pragma once

#include "frame_yuv.h"

namespace mmedge {
namespace {

// Bytes of a pixel in the rows of luma.
inline int64_t pixel_bytes(int32_t format) {
  switch (format) {
    case MMEDGE_FRAME_GREY:
    case MMEDGE_FRAME_NV12: return 1;
    case MMEDGE_FRAME_YUYV: return 2;
    default: return 3;
  }
}

// The needed part of a frame, or of what the vertical pass made of it where that comes first.
struct Picture {
  const uint8_t* first;   // the first needed byte of the first needed row
  const uint8_t* chroma;  // NV12: the same of the rows of U and V
  int64_t row_step;       // bytes
  int64_t rows, cols;
};

// Some rows of a picture. Rows behind the last one fill a vector up and count for nothing.
struct Rows {
  const uint8_t* luma[kLanes];
  const uint8_t* chroma[kLanes / 2];
  int64_t cols;

  Rows(const Picture& picture, int64_t row, int count) : cols(picture.cols) {
    for (int i = 0; i < count; ++i) {
      const int64_t inside = row + i < picture.rows ? row + i : picture.rows - 1;
      luma[i] = picture.first + inside * picture.row_step;
      chroma[i / 2] = picture.chroma + inside / 2 * picture.row_step;
    }
  }
};

// A format says how columns [col, col + kLanes) of rows [row, row + 4) come to where a pass wants them; row and col are
// multiples of 4. What stands for columns that the picture does not have is of no meaning.
//   fill_tile: for the horizontal pass, tile[quad of columns][channel][row], kLanes rows.
//   fill_strip: for the vertical pass, the four samples of a column as a word, `plane` words from channel to channel.

// One byte a column and channel, the channels one after the other in each row.
template <int kChannels_>
struct Planar {
  static constexpr int kChannels = kChannels_;

  static void load(const Rows& rows, int row, int64_t col, int channel, Bytes samples[4]) {
    for (int i = 0; i < 4; ++i) {
      samples[i] = load_bytes(rows.luma[row + i] + channel * rows.cols + col, rows.cols - col);
    }
  }

  static void fill_tile(const Rows& rows, int row, int64_t col, uint32_t* tile) {
    for (int channel = 0; channel < kChannels; ++channel) {
      Bytes samples[4];
      load(rows, row, col, channel, samples);
      store_transposed(samples, tile + channel * kLanes, kChannels * kLanes);
    }
  }

  static void fill_strip(const Rows& rows, int64_t col, uint32_t* strip, int64_t plane) {
    for (int channel = 0; channel < kChannels; ++channel) {
      Bytes samples[4];
      load(rows, 0, col, channel, samples);
      store_interleaved(samples, strip + channel * plane);
    }
  }
};

// Three bytes a column. The vertical pass needs no channels and takes such rows for Planar<1>.
struct Interleaved {
  static constexpr int kChannels = 3;

  static void fill_tile(const Rows& rows, int row, int64_t col, uint32_t* tile) {
    constexpr int kQuadBytes = 4 * kChannels;
    const int64_t bytes = kChannels * (rows.cols - col);
    const auto fill_quad = [&](int64_t at, int64_t count) {
      Bytes pixels[4];
      for (int i = 0; i < 4; ++i) pixels[i] = load_bytes(rows.luma[row + i] + kChannels * col + at, count);
      store_split(pixels, tile, kLanes);
      tile += kChannels * kLanes;
    };
    if (bytes >= (kGroupQuads - 1) * kQuadBytes + kLanes) {
      for (int quad = 0; quad < kGroupQuads; ++quad) fill_quad(quad * kQuadBytes, kLanes);
    } else {
      for (int64_t at = 0; at < bytes; at += kQuadBytes) fill_quad(at, bytes - at);
    }
  }
};

// Any layout of YUV. Layout::load gives R, G and B of four rows.
template <typename Layout>
struct Yuv {
  static constexpr int kChannels = 3;

  static void fill_tile(const Rows& rows, int row, int64_t col, uint32_t* tile) {
    Halves rgb[kChannels][4];
    Layout::load(rows, row, col, rgb);
    for (int channel = 0; channel < kChannels; ++channel) {
      store_transposed(rgb[channel], tile + channel * kLanes, kChannels * kLanes);
    }
  }

  static void fill_strip(const Rows& rows, int64_t col, uint32_t* strip, int64_t plane) {
    Halves rgb[kChannels][4];
    Layout::load(rows, 0, col, rgb);
    for (int channel = 0; channel < kChannels; ++channel) {
      Bytes samples[4];
      for (int i = 0; i < 4; ++i) samples[i] = narrow(rgb[channel][i]);
      store_interleaved(samples, strip + channel * plane);
    }
  }
};

struct Nv12 {
  static void load(const Rows& rows, int row, int64_t col, Halves rgb[3][4]) {
    for (int pair = 0; pair < 4; pair += 2) {
      const Bytes uv = load_bytes(rows.chroma[(row + pair) / 2] + col, rows.cols - col);
      const Chroma chroma(MMEDGE_SHUFFLE(Bytes, uv, uv, 0, 0, 2, 2, 4, 4, 6, 6, 8, 8, 10, 10, 12, 12, 14, 14),
                          MMEDGE_SHUFFLE(Bytes, uv, uv, 1, 1, 3, 3, 5, 5, 7, 7, 9, 9, 11, 11, 13, 13, 15, 15));
      for (int i = pair; i < pair + 2; ++i) {
        const Bytes luma = load_bytes(rows.luma[row + i] + col, rows.cols - col);
        yuv_to_rgb(luma, chroma, &rgb[0][i], &rgb[1][i], &rgb[2][i]);
      }
    }
  }
};

struct Yuyv {
  static void load(const Rows& rows, int row, int64_t col, Halves rgb[3][4]) {
    const int64_t bytes = 2 * (rows.cols - col);
    for (int i = 0; i < 4; ++i) {
      const uint8_t* source = rows.luma[row + i] + 2 * col;
      const Bytes a = load_bytes(source, bytes);
      const Bytes b = bytes > kLanes ? load_bytes(source + kLanes, bytes - kLanes) : Bytes{};
      const Bytes luma = MMEDGE_SHUFFLE(Bytes, a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
      const Chroma chroma(MMEDGE_SHUFFLE(Bytes, a, b, 1, 1, 5, 5, 9, 9, 13, 13, 17, 17, 21, 21, 25, 25, 29, 29),
                          MMEDGE_SHUFFLE(Bytes, a, b, 3, 3, 7, 7, 11, 11, 15, 15, 19, 19, 23, 23, 27, 27, 31, 31));
      yuv_to_rgb(luma, chroma, &rgb[0][i], &rgb[1][i], &rgb[2][i]);
    }
  }
};

}  // namespace
}  // namespace mmedge
