// Compiler vector types only: the form that runs everywhere.
#include "frame_variant.h"

namespace mmedge {
namespace {

typedef uint32_t Sums __attribute__((vector_size(16)));

constexpr int kGroupsTogether = 1;

void pack_quad(const int32_t weights[4], int32_t packed[4]) {
  for (int i = 0; i < 4; ++i) packed[i] = weights[i];
}

// Sums wrap around in the middle and come out right, because the whole sum fits.
struct Group {
  Sums sums[kLanes / 4];

  Group() {
    for (Sums& sum : sums) sum = Sums{kRound, kRound, kRound, kRound};
  }

  void add(const uint32_t* data, const int32_t* packed) {
    for (int i = 0; i < kLanes / 4; ++i) {
      Sums words;
      __builtin_memcpy(&words, data + 4 * i, sizeof words);
      sums[i] += (words & 255u) * static_cast<uint32_t>(packed[0]);
      sums[i] += ((words >> 8) & 255u) * static_cast<uint32_t>(packed[1]);
      sums[i] += ((words >> 16) & 255u) * static_cast<uint32_t>(packed[2]);
      sums[i] += (words >> 24) * static_cast<uint32_t>(packed[3]);
    }
  }

  void store(uint8_t out[kLanes]) const {
    for (int lane = 0; lane < kLanes; ++lane) {
      const int32_t value = static_cast<int32_t>(sums[lane / 4][lane % 4]) >> kPrecisionBits;
      out[lane] = static_cast<uint8_t>(value < 0 ? 0 : value > 255 ? 255 : value);
    }
  }
};

}  // namespace
}  // namespace mmedge

#include "frame_rows.h"

namespace mmedge {
extern const Variant kPortableVariant;
const Variant kPortableVariant = {"portable", [] { return true; }, pack, run_rows};
}  // namespace mmedge
