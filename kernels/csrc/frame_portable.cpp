// Compiler vector types only: the baseline of every processor, and SSE4.1 where compiled with that flag.
#include "frame_variant.h"

namespace mmedge {
namespace {

typedef uint32_t Sums __attribute__((vector_size(16)));

void pack_quad(const int32_t weights[4], int32_t packed[4]) {
  for (int i = 0; i < 4; ++i) packed[i] = weights[i];
}

// Sums wrap around in the middle and come out right, because the whole sum fits.
inline void window_sum(const uint32_t* data, ptrdiff_t step, const int32_t* packed, int quads, uint8_t out[kLanes]) {
  Sums sums[kLanes / 4];
  for (Sums& sum : sums) sum = Sums{kRound, kRound, kRound, kRound};
  for (int quad = 0; quad < quads; ++quad, data += step, packed += 4) {
    for (int i = 0; i < kLanes / 4; ++i) {
      Sums words;
      __builtin_memcpy(&words, data + 4 * i, sizeof words);
      sums[i] += (words & 255u) * static_cast<uint32_t>(packed[0]);
      sums[i] += ((words >> 8) & 255u) * static_cast<uint32_t>(packed[1]);
      sums[i] += ((words >> 16) & 255u) * static_cast<uint32_t>(packed[2]);
      sums[i] += (words >> 24) * static_cast<uint32_t>(packed[3]);
    }
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    const int32_t value = static_cast<int32_t>(sums[lane / 4][lane % 4]) >> kPrecisionBits;
    out[lane] = static_cast<uint8_t>(value < 0 ? 0 : value > 255 ? 255 : value);
  }
}

}  // namespace
}  // namespace mmedge

#include "frame_rows.h"

namespace mmedge {
#if defined(__SSE4_1__)
extern const Variant kSse4Variant;
const Variant kSse4Variant = {"sse4", [] { return __builtin_cpu_supports("sse4.1") != 0; }, pack, run_rows};
#else
extern const Variant kPortableVariant;
const Variant kPortableVariant = {"portable", [] { return true; }, pack, run_rows};
#endif
}  // namespace mmedge
