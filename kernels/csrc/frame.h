// C interface of the camera-frame kernel: uint8 frame -> model tensor in one pass over the rows.
//
// Frames are RGB, BGR, grey, or YUV in the layouts of cameras, which become RGB on the way (frame_yuv.h).
// The resampling is Pillow's: a horizontal and a vertical pass, each a weighted sum of uint8 samples with
// integer weights of 22 fraction bits, rounded and clamped to uint8. A window of samples is handled in "quads", four
// consecutive samples packed into one 32-bit word, so that one instruction can multiply and add four of them.
#pragma once

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define MMEDGE_EXPORT __declspec(dllexport)
#else
#define MMEDGE_EXPORT __attribute__((visibility("default")))
#endif

// Raised with every change of what stands below, so that a library left from another version is recognised.
#define MMEDGE_FRAME_INTERFACE 2

#ifdef __cplusplus
extern "C" {
#endif

MMEDGE_EXPORT int32_t mmedge_frame_interface(void);

// How the bytes of a frame lie. Rows may be any distance apart.
enum {
  MMEDGE_FRAME_RGB = 0,   // three bytes a pixel
  MMEDGE_FRAME_BGR = 1,   // three bytes a pixel, blue first
  MMEDGE_FRAME_GREY = 2,  // one byte a pixel; the output's channels are equal before the normalisation
  MMEDGE_FRAME_NV12 = 3,  // a row of Y each, then rows of U V U V, one for two rows and one pair for two columns
  MMEDGE_FRAME_YUYV = 4,  // Y U Y V for two columns
};

// One axis of the resampling. Output i sums `quads` quads from quad first[i] on; first never decreases, and all quads
// begin inside the needed samples.
typedef struct {
  int32_t count;          // outputs on this axis
  int32_t quads;          // the same for every output: a loop of one length is worth more than a few zero weights
  const int32_t* first;   // [count]
  const int32_t* packed;  // [count][quads][4]: weights as mmedge_frame_pack wrote them for one variant
} mmedge_frame_axis;

// Everything about a frame size and an output format that does not change from frame to frame. Read only.
typedef struct {
  int32_t format;         // MMEDGE_FRAME_RGB, ...
  int32_t chroma_row;     // NV12: the first row of U and V, which is the height of the picture
  int32_t row0, rows;     // source rows that are read; quad 0 of the vertical pass starts at row0
  int32_t col0, cols;     // source columns that are read; quad 0 of the horizontal pass starts at col0
                          // NV12: row0, col0 and cols are even; YUYV: col0 and cols are even
  int32_t height, width;  // output size
  int32_t top, left;      // where the resampled picture starts in the output; the rest is padding
  int32_t pad_value;      // uint8 value of the padding
  int32_t channels_last;  // 0: output [3][height][width], 1: output [height][width][3]
  int32_t element_bytes;  // 1, 2 or 4
  const void* values;     // [3][256] output elements, by output channel and uint8 sample
  mmedge_frame_axis horizontal;
  mmedge_frame_axis vertical;
  // Where the vertical pass comes first: its axis, and `vertical` keeps the rows it makes. Otherwise its count is 0.
  mmedge_frame_axis vertical_before;
} mmedge_frame_plan;

// Instruction-set variants this processor can run, best first.
MMEDGE_EXPORT int32_t mmedge_frame_variants(void);
MMEDGE_EXPORT const char* mmedge_frame_variant_name(int32_t variant);

// Turns `count` quads of weights, [count][4], into the variant's own form, [count][4].
MMEDGE_EXPORT void mmedge_frame_pack(int32_t variant, const int32_t* weights, int64_t count, int32_t* packed);

// Bytes of working memory that a run with this many threads needs.
MMEDGE_EXPORT int64_t mmedge_frame_scratch_bytes(const mmedge_frame_plan* plan, int32_t threads);

// frame: byte 0 of row 0; row_stride in bytes, negative allowed. Nothing outside the needed rows and columns is read.
// Concurrent runs of one plan are allowed, each with scratch of its own.
MMEDGE_EXPORT void mmedge_frame_run(int32_t variant, const mmedge_frame_plan* plan, const uint8_t* frame,
                                    int64_t row_stride, void* out, void* scratch, int32_t threads);

#ifdef __cplusplus
}
#endif
