// NEON dot product (Armv8.2): four signed byte products added into 32 bits.
//
// Samples are unsigned, so 128 is taken off each by flipping its top bit; 128 times the sum of the weights puts it
// back.
#include <arm_neon.h>
#if defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include "frame_digits.h"

namespace mmedge {
namespace {

constexpr int kGroupsTogether = 1;

void pack_quad(const int32_t weights[4], int32_t packed[4]) {
  pack_digits(weights, packed);
  packed[3] = 128 * (weights[0] + weights[1] + weights[2] + weights[3]);
}

struct Group {
  static constexpr int kVectors = kLanes / 4;
  int32x4_t sums[kVectors][kDigits];
  uint32_t offset = kRound;

  Group() {
    for (auto& sum : sums) sum[0] = sum[1] = sum[2] = vdupq_n_s32(0);
  }

  void add(const uint32_t* data, const int32_t* packed) {
    const int8x16_t digits[kDigits] = {vreinterpretq_s8_s32(vdupq_n_s32(packed[0])),
                                       vreinterpretq_s8_s32(vdupq_n_s32(packed[1])),
                                       vreinterpretq_s8_s32(vdupq_n_s32(packed[2]))};
    for (int i = 0; i < kVectors; ++i) {
      const uint8x16_t bytes = vreinterpretq_u8_u32(vld1q_u32(data + 4 * i));
      const int8x16_t samples = vreinterpretq_s8_u8(veorq_u8(bytes, vdupq_n_u8(128)));
      for (int digit = 0; digit < kDigits; ++digit) sums[i][digit] = vdotq_s32(sums[i][digit], samples, digits[digit]);
    }
    offset += static_cast<uint32_t>(packed[3]);
  }

  void store(uint8_t out[kLanes]) const {
    int16x4_t rounded[kVectors];
    for (int i = 0; i < kVectors; ++i) {
      int32x4_t sum = vaddq_s32(sums[i][0], vshlq_n_s32(sums[i][1], 8));
      sum = vaddq_s32(sum, vshlq_n_s32(sums[i][2], 16));
      sum = vaddq_s32(sum, vdupq_n_s32(static_cast<int32_t>(offset)));
      rounded[i] = vmovn_s32(vshrq_n_s32(sum, kPrecisionBits));
    }
    vst1_u8(out, vqmovun_s16(vcombine_s16(rounded[0], rounded[1])));
    vst1_u8(out + 8, vqmovun_s16(vcombine_s16(rounded[2], rounded[3])));
  }
};

}  // namespace
}  // namespace mmedge

#include "frame_rows.h"

namespace mmedge {
namespace {
bool supported() {
#if defined(__APPLE__)
  return true;
#elif defined(__linux__)
  return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#else
  return false;
#endif
}
}  // namespace
extern const Variant kDotprodVariant;
const Variant kDotprodVariant = {"neon-dotprod", supported, pack, run_rows};
}  // namespace mmedge
