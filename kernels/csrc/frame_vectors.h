// Vectors of sixteen bytes in the compiler's own types, and the shuffles both passes load with.
#pragma once

#include <string.h>

#include "frame_variant.h"

namespace mmedge {
namespace {

typedef uint8_t Bytes __attribute__((vector_size(kLanes)));
typedef uint32_t Words __attribute__((vector_size(kLanes)));

#if defined(__clang__)
#define MMEDGE_SHUFFLE(type, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define MMEDGE_SHUFFLE(type, a, b, ...) __builtin_shuffle(a, b, type{__VA_ARGS__})
#endif

__attribute__((noinline)) Bytes load_few_bytes(const uint8_t* source, int64_t count) {
  Bytes bytes = {};
  memcpy(&bytes, source, static_cast<size_t>(count));
  return bytes;
}

// `count` bytes at `source` (kLanes where it is more), the rest zero; no byte behind them is read.
inline Bytes load_bytes(const uint8_t* source, int64_t count) {
  if (count < kLanes) return load_few_bytes(source, count);
  Bytes bytes;
  memcpy(&bytes, source, sizeof bytes);
  return bytes;
}

inline void store(Words words, uint32_t* target) { memcpy(target, &words, sizeof words); }

// Four rows of 16 bytes -> four times a word of every row, `step` words apart.
inline void store_transposed(const Bytes bytes[4], uint32_t* target, int64_t step) {
  Words rows[4];
  memcpy(rows, bytes, sizeof rows);
  const Words ab = MMEDGE_SHUFFLE(Words, rows[0], rows[1], 0, 4, 1, 5);
  const Words cd = MMEDGE_SHUFFLE(Words, rows[2], rows[3], 0, 4, 1, 5);
  const Words ab_high = MMEDGE_SHUFFLE(Words, rows[0], rows[1], 2, 6, 3, 7);
  const Words cd_high = MMEDGE_SHUFFLE(Words, rows[2], rows[3], 2, 6, 3, 7);
  store(MMEDGE_SHUFFLE(Words, ab, cd, 0, 1, 4, 5), target);
  store(MMEDGE_SHUFFLE(Words, ab, cd, 2, 3, 6, 7), target + step);
  store(MMEDGE_SHUFFLE(Words, ab_high, cd_high, 0, 1, 4, 5), target + 2 * step);
  store(MMEDGE_SHUFFLE(Words, ab_high, cd_high, 2, 3, 6, 7), target + 3 * step);
}

// Four rows of 16 bytes -> 16 words, each with a byte of every row.
inline void store_interleaved(const Bytes rows[4], uint32_t* target) {
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
  memcpy(target, result, sizeof result);
}

// Four rows of 16 bytes that begin with four pixels of three channels -> for each channel a word of every row, `step`
// words apart.
inline void store_split(const Bytes pixels[4], uint32_t* target, int64_t step) {
  Words rows[4];
  for (int i = 0; i < 4; ++i) {
    const Bytes split = MMEDGE_SHUFFLE(Bytes, pixels[i], pixels[i], 0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, 0, 0, 0, 0);
    memcpy(&rows[i], &split, sizeof split);
  }
  const Words ab = MMEDGE_SHUFFLE(Words, rows[0], rows[1], 0, 4, 1, 5);
  const Words cd = MMEDGE_SHUFFLE(Words, rows[2], rows[3], 0, 4, 1, 5);
  const Words ab_high = MMEDGE_SHUFFLE(Words, rows[0], rows[1], 2, 6, 3, 7);
  const Words cd_high = MMEDGE_SHUFFLE(Words, rows[2], rows[3], 2, 6, 3, 7);
  store(MMEDGE_SHUFFLE(Words, ab, cd, 0, 1, 4, 5), target);
  store(MMEDGE_SHUFFLE(Words, ab, cd, 2, 3, 6, 7), target + step);
  store(MMEDGE_SHUFFLE(Words, ab_high, cd_high, 0, 1, 4, 5), target + 2 * step);
}

}  // namespace
}  // namespace mmedge
