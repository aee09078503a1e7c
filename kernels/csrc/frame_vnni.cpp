// VNNI: four unsigned by signed byte products added into 32 bits; compiled for AVX-512 VNNI and for AVX-VNNI.
#include <immintrin.h>

#include "frame_digits.h"

namespace mmedge {
namespace {

void pack_quad(const int32_t weights[4], int32_t packed[4]) {
  pack_digits(weights, packed);
  packed[3] = 0;
}

inline __m256i dot(__m256i sum, __m256i samples, int32_t digits) {
#if defined(__AVX512VNNI__)
  return _mm256_dpbusd_epi32(sum, samples, _mm256_set1_epi32(digits));
#else
  return _mm256_dpbusd_avx_epi32(sum, samples, _mm256_set1_epi32(digits));
#endif
}

inline __m128i rounded(const __m256i sums[kDigits]) {
  __m256i sum = _mm256_add_epi32(sums[0], _mm256_slli_epi32(sums[1], 8));
  sum = _mm256_add_epi32(sum, _mm256_slli_epi32(sums[2], 16));
  sum = _mm256_srai_epi32(sum, kPrecisionBits);
  return _mm_packs_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
}

inline void window_sum(const uint32_t* data, ptrdiff_t step, const int32_t* packed, int quads, uint8_t out[kLanes]) {
  __m256i sums[2][kDigits];
  for (int i = 0; i < 2; ++i) {
    sums[i][0] = _mm256_set1_epi32(kRound);
    sums[i][1] = sums[i][2] = _mm256_setzero_si256();
  }
  for (int quad = 0; quad < quads; ++quad, data += step, packed += 4) {
    for (int i = 0; i < 2; ++i) {
      const __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(data + 8 * i));
      for (int digit = 0; digit < kDigits; ++digit) sums[i][digit] = dot(sums[i][digit], words, packed[digit]);
    }
  }
  const __m128i bytes = _mm_packus_epi16(rounded(sums[0]), rounded(sums[1]));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), bytes);
}

}  // namespace
}  // namespace mmedge

#include <cpuid.h>

#include "frame_rows.h"

namespace mmedge {
#if defined(__AVX512VNNI__)
extern const Variant kAvx512VnniVariant;
const Variant kAvx512VnniVariant = {
    "avx512-vnni",
    [] { return __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni"); },
    pack, run_rows};
#else
namespace {
bool supported() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __builtin_cpu_supports("avx2") && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & (1u << 4));
}
}  // namespace
extern const Variant kAvxVnniVariant;
const Variant kAvxVnniVariant = {"avx-vnni", supported, pack, run_rows};
#endif
}  // namespace mmedge
