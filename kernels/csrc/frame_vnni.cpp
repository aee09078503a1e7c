// VNNI: four unsigned by signed byte products added into 32 bits; compiled for AVX-512 VNNI and for AVX-VNNI.
#include <immintrin.h>

#include "frame_digits.h"

namespace mmedge {
namespace {

void pack_quad(const int32_t weights[4], int32_t packed[4]) {
  pack_digits(weights, packed);
  packed[3] = 0;
}

#if defined(__AVX512VNNI__)

constexpr int kGroupsTogether = 3;

struct Group {
  __m512i sums[kDigits] = {_mm512_set1_epi32(kRound), _mm512_setzero_si512(), _mm512_setzero_si512()};

  void add(const uint32_t* data, const int32_t* packed) {
    const __m512i words = _mm512_loadu_si512(data);
    for (int digit = 0; digit < kDigits; ++digit) {
      sums[digit] = _mm512_dpbusd_epi32(sums[digit], words, _mm512_set1_epi32(packed[digit]));
    }
  }

  void store(uint8_t out[kLanes]) const {
    typedef uint32_t Sums __attribute__((vector_size(64)));
    typedef int32_t SignedSums __attribute__((vector_size(64)));
    typedef int16_t Shorts __attribute__((vector_size(32)));
    const auto low = reinterpret_cast<Sums>(sums[0]);
    const auto middle = reinterpret_cast<Sums>(sums[1]);
    const auto high = reinterpret_cast<Sums>(sums[2]);
    const auto sum = reinterpret_cast<SignedSums>(low + (middle << 8) + (high << 16)) >> kPrecisionBits;
    const auto halves = reinterpret_cast<__m256i>(__builtin_convertvector(sum, Shorts));
    const __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), bytes);
  }
};

#else

constexpr int kGroupsTogether = 1;  // more do not fit into the registers

inline __m128i rounded(const __m256i sums[kDigits]) {
  const __m256i high = _mm256_add_epi32(_mm256_slli_epi32(sums[2], 16), _mm256_slli_epi32(sums[1], 8));
  const __m256i sum = _mm256_srai_epi32(_mm256_add_epi32(sums[0], high), kPrecisionBits);
  return _mm_packs_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
}

struct Group {
  __m256i sums[2][kDigits];

  Group() {
    for (auto& sum : sums) {
      sum[0] = _mm256_set1_epi32(kRound);
      sum[1] = sum[2] = _mm256_setzero_si256();
    }
  }

  void add(const uint32_t* data, const int32_t* packed) {
    for (int i = 0; i < 2; ++i) {
      const __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(data + 8 * i));
      for (int digit = 0; digit < kDigits; ++digit) {
        sums[i][digit] = _mm256_dpbusd_avx_epi32(sums[i][digit], words, _mm256_set1_epi32(packed[digit]));
      }
    }
  }

  void store(uint8_t out[kLanes]) const {
    const __m128i bytes = _mm_packus_epi16(rounded(sums[0]), rounded(sums[1]));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), bytes);
  }
};

#endif

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
