// 16-bit multiply-add of pairs, each weight split into 15 low bits and the signed rest; compiled for AVX2 and SSE4.1.
#include <immintrin.h>

#include "frame_variant.h"

namespace mmedge {
namespace {

#if defined(__AVX2__)
constexpr int kVectorSize = 32;
#else
constexpr int kVectorSize = 16;
#endif
typedef uint32_t Sums __attribute__((vector_size(kVectorSize)));
typedef int32_t SignedSums __attribute__((vector_size(kVectorSize)));
typedef uint16_t Pairs __attribute__((vector_size(kVectorSize)));

constexpr int kGroupsTogether = 1;  // more do not fit into the registers
constexpr int kLowBits = 15;

inline int32_t pair(int32_t first, int32_t second) {
  return static_cast<int32_t>((static_cast<uint32_t>(first) & 0xffffu) | (static_cast<uint32_t>(second) << 16));
}

// Bytes 0 and 2 of a word are multiplied together, and bytes 1 and 3.
void pack_quad(const int32_t weights[4], int32_t packed[4]) {
  const int32_t low = (1 << kLowBits) - 1;
  packed[0] = pair(weights[0] & low, weights[2] & low);
  packed[1] = pair(weights[1] & low, weights[3] & low);
  packed[2] = pair(weights[0] >> kLowBits, weights[2] >> kLowBits);
  packed[3] = pair(weights[1] >> kLowBits, weights[3] >> kLowBits);
}

inline Sums multiply_add(Pairs samples, int32_t weights) {
#if defined(__AVX2__)
  return reinterpret_cast<Sums>(
      _mm256_madd_epi16(reinterpret_cast<__m256i>(samples), _mm256_set1_epi32(weights)));
#else
  return reinterpret_cast<Sums>(_mm_madd_epi16(reinterpret_cast<__m128i>(samples), _mm_set1_epi32(weights)));
#endif
}

// Sums may wrap around in the middle and come out right, because the whole sum fits.
struct Group {
  static constexpr int kVectors = kLanes * 4 / kVectorSize;
  Sums low[kVectors] = {};
  Sums high[kVectors] = {};

  void add(const uint32_t* data, const int32_t* packed) {
    for (int i = 0; i < kVectors; ++i) {
      Pairs samples;
      __builtin_memcpy(&samples, data + i * (kLanes / kVectors), sizeof samples);
      const Pairs even = samples & 255;
      const Pairs odd = samples >> 8;
      low[i] += multiply_add(even, packed[0]) + multiply_add(odd, packed[1]);
      high[i] += multiply_add(even, packed[2]) + multiply_add(odd, packed[3]);
    }
  }

  void store(uint8_t out[kLanes]) const {
    SignedSums sums[kVectors];
    for (int i = 0; i < kVectors; ++i) {
      sums[i] = reinterpret_cast<SignedSums>(low[i] + (high[i] << kLowBits) + kRound) >> kPrecisionBits;
    }
    __m128i quarters[4];
    __builtin_memcpy(quarters, sums, sizeof quarters);
    const __m128i bytes = _mm_packus_epi16(_mm_packs_epi32(quarters[0], quarters[1]),
                                           _mm_packs_epi32(quarters[2], quarters[3]));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), bytes);
  }
};

}  // namespace
}  // namespace mmedge

#include "frame_rows.h"

namespace mmedge {
#if defined(__AVX2__)
extern const Variant kAvx2Variant;
const Variant kAvx2Variant = {"avx2", [] { return __builtin_cpu_supports("avx2") != 0; }, pack, run_rows};
#else
extern const Variant kSse4Variant;
const Variant kSse4Variant = {"sse4", [] { return __builtin_cpu_supports("sse4.1") != 0; }, pack, run_rows};
#endif
}  // namespace mmedge
