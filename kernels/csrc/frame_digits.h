// Weights as three signed bytes, for processors that multiply and add four bytes at once.
#pragma once

#include "frame_variant.h"

namespace mmedge {
namespace {

constexpr int kDigits = 3;

// weight = digit 0 + 256 * digit 1 + 65536 * digit 2, each in [-128, 127]; weights stay below 2^23 - 2^15.
// packed[3] is left to the caller.
inline void pack_digits(const int32_t weights[4], int32_t packed[4]) {
  uint32_t words[kDigits] = {};
  for (int i = 0; i < 4; ++i) {
    int32_t rest = weights[i];
    for (uint32_t& word : words) {
      const uint32_t byte = static_cast<uint32_t>(rest) & 255u;
      word |= byte << (8 * i);
      rest = (rest - static_cast<int32_t>(static_cast<int8_t>(byte))) >> 8;
    }
  }
  for (int digit = 0; digit < kDigits; ++digit) packed[digit] = static_cast<int32_t>(words[digit]);
}

}  // namespace
}  // namespace mmedge
