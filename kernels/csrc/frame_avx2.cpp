// AVX2: 16-bit multiply-add of pairs, each weight split into 15 low bits and the signed rest.
#include <immintrin.h>

#include "frame_variant.h"

namespace mmedge {
namespace {

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

inline __m128i rounded(__m256i low, __m256i high) {
  __m256i sum = _mm256_add_epi32(low, _mm256_slli_epi32(high, kLowBits));
  sum = _mm256_srai_epi32(_mm256_add_epi32(sum, _mm256_set1_epi32(kRound)), kPrecisionBits);
  return _mm_packs_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
}

inline void window_sum(const uint32_t* data, ptrdiff_t step, const int32_t* packed, int quads, uint8_t out[kLanes]) {
  const __m256i even_bytes = _mm256_set1_epi16(255);
  __m256i low[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
  __m256i high[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
  for (int quad = 0; quad < quads; ++quad, data += step, packed += 4) {
    for (int i = 0; i < 2; ++i) {
      const __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(data + 8 * i));
      const __m256i even = _mm256_and_si256(words, even_bytes);
      const __m256i odd = _mm256_srli_epi16(words, 8);
      low[i] = _mm256_add_epi32(low[i], _mm256_madd_epi16(even, _mm256_set1_epi32(packed[0])));
      low[i] = _mm256_add_epi32(low[i], _mm256_madd_epi16(odd, _mm256_set1_epi32(packed[1])));
      high[i] = _mm256_add_epi32(high[i], _mm256_madd_epi16(even, _mm256_set1_epi32(packed[2])));
      high[i] = _mm256_add_epi32(high[i], _mm256_madd_epi16(odd, _mm256_set1_epi32(packed[3])));
    }
  }
  const __m128i bytes = _mm_packus_epi16(rounded(low[0], high[0]), rounded(low[1], high[1]));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), bytes);
}

}  // namespace
}  // namespace mmedge

#include "frame_rows.h"

namespace mmedge {
extern const Variant kAvx2Variant;
const Variant kAvx2Variant = {"avx2", [] { return __builtin_cpu_supports("avx2") != 0; }, pack, run_rows};
}  // namespace mmedge
