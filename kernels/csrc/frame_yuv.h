// YUV -> RGB, BT.601 limited range, in the fixed-point arithmetic of OpenCV's cvtColor and equal to it to the bit:
//
//   y = max(Y - 16, 0), u = U - 128, v = V - 128, each factor rounded to 20 fraction bits, then rounded and clamped
//   R = 1.164 y + 1.596 v,  G = 1.164 y - 0.391 u - 0.813 v,  B = 1.164 y + 2.018 u
#pragma once

#include "frame_vectors.h"

#if defined(__SSE2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace mmedge {
namespace {

#if defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif
typedef int16_t Half __attribute__((vector_size(kVectorBytes)));
typedef int32_t Part __attribute__((vector_size(kVectorBytes)));

// Sixteen numbers of 16 bits, and of 32 bits in the order in which products() makes them and narrow() takes them.
struct Halves {
  Half part[2 * kLanes / kVectorBytes];
};
struct Numbers {
  Part part[4 * kLanes / kVectorBytes];
};

inline Halves widen(Bytes bytes) {
  Halves halves;
#if defined(__AVX2__)
  halves.part[0] = reinterpret_cast<Half>(_mm256_cvtepu8_epi16(reinterpret_cast<__m128i>(bytes)));
#elif defined(__SSE2__)
  const __m128i zero = _mm_setzero_si128();
  halves.part[0] = reinterpret_cast<Half>(_mm_unpacklo_epi8(reinterpret_cast<__m128i>(bytes), zero));
  halves.part[1] = reinterpret_cast<Half>(_mm_unpackhi_epi8(reinterpret_cast<__m128i>(bytes), zero));
#elif defined(__ARM_NEON)
  const uint8x16_t all = reinterpret_cast<uint8x16_t>(bytes);
  halves.part[0] = reinterpret_cast<Half>(vmovl_u8(vget_low_u8(all)));
  halves.part[1] = reinterpret_cast<Half>(vmovl_u8(vget_high_u8(all)));
#else
  for (int i = 0; i < kLanes; ++i) halves.part[i / 8][i % 8] = bytes[i];
#endif
  return halves;
}

// factor times each of the numbers, which are within [-256, 255]: 15 low bits of the factor times the number and the
// rest, made 256 times larger, times 128 times the number, so that all factors of a product have 16 bits.
inline Numbers products(const Halves& halves, int32_t factor) {
  Numbers numbers;
  const int32_t low = factor & 0x7fff;
  const int32_t high = (factor >> 15) * 256;
  for (unsigned i = 0; i < sizeof halves.part / sizeof halves.part[0]; ++i) {
    const Half half = halves.part[i];
    const Half larger = half * 128;
#if defined(__AVX2__)
    const __m256i factors = _mm256_set1_epi32(low | static_cast<int32_t>(static_cast<uint32_t>(high) << 16));
    const auto a = reinterpret_cast<__m256i>(half);
    const auto b = reinterpret_cast<__m256i>(larger);
    numbers.part[2 * i] = reinterpret_cast<Part>(_mm256_madd_epi16(_mm256_unpacklo_epi16(a, b), factors));
    numbers.part[2 * i + 1] = reinterpret_cast<Part>(_mm256_madd_epi16(_mm256_unpackhi_epi16(a, b), factors));
#elif defined(__SSE2__)
    const __m128i factors = _mm_set1_epi32(low | static_cast<int32_t>(static_cast<uint32_t>(high) << 16));
    const auto a = reinterpret_cast<__m128i>(half);
    const auto b = reinterpret_cast<__m128i>(larger);
    numbers.part[2 * i] = reinterpret_cast<Part>(_mm_madd_epi16(_mm_unpacklo_epi16(a, b), factors));
    numbers.part[2 * i + 1] = reinterpret_cast<Part>(_mm_madd_epi16(_mm_unpackhi_epi16(a, b), factors));
#elif defined(__ARM_NEON)
    const auto a = reinterpret_cast<int16x8_t>(half);
    const auto b = reinterpret_cast<int16x8_t>(larger);
    const auto low16 = static_cast<int16_t>(low);
    const auto high16 = static_cast<int16_t>(high);
    numbers.part[2 * i] =
        reinterpret_cast<Part>(vmlal_n_s16(vmull_n_s16(vget_low_s16(a), low16), vget_low_s16(b), high16));
    numbers.part[2 * i + 1] =
        reinterpret_cast<Part>(vmlal_n_s16(vmull_n_s16(vget_high_s16(a), low16), vget_high_s16(b), high16));
#else
    for (int lane = 0; lane < 8; ++lane) {
      numbers.part[2 * i + lane / 4][lane % 4] = half[lane] * low + larger[lane] * high;
    }
#endif
  }
  return numbers;
}

// Each number as the nearest one of 16 bits.
inline Halves narrow(const Numbers& numbers) {
  Halves halves;
  for (unsigned i = 0; i < sizeof halves.part / sizeof halves.part[0]; ++i) {
    const Part a = numbers.part[2 * i];
    const Part b = numbers.part[2 * i + 1];
#if defined(__AVX2__)
    halves.part[i] =
        reinterpret_cast<Half>(_mm256_packs_epi32(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
#elif defined(__SSE2__)
    halves.part[i] =
        reinterpret_cast<Half>(_mm_packs_epi32(reinterpret_cast<__m128i>(a), reinterpret_cast<__m128i>(b)));
#elif defined(__ARM_NEON)
    halves.part[i] = reinterpret_cast<Half>(
        vcombine_s16(vqmovn_s32(reinterpret_cast<int32x4_t>(a)), vqmovn_s32(reinterpret_cast<int32x4_t>(b))));
#else
    for (int lane = 0; lane < 8; ++lane) halves.part[i][lane] = static_cast<int16_t>(lane < 4 ? a[lane] : b[lane - 4]);
#endif
  }
  return halves;
}

// Each number as the nearest uint8.
inline Bytes narrow(const Halves& halves) {
#if defined(__AVX2__)
  const auto all = reinterpret_cast<__m256i>(halves.part[0]);
  return reinterpret_cast<Bytes>(_mm_packus_epi16(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1)));
#elif defined(__SSE2__)
  return reinterpret_cast<Bytes>(
      _mm_packus_epi16(reinterpret_cast<__m128i>(halves.part[0]), reinterpret_cast<__m128i>(halves.part[1])));
#elif defined(__ARM_NEON)
  return reinterpret_cast<Bytes>(vcombine_u8(vqmovun_s16(reinterpret_cast<int16x8_t>(halves.part[0])),
                                             vqmovun_s16(reinterpret_cast<int16x8_t>(halves.part[1]))));
#else
  Bytes bytes;
  for (int i = 0; i < kLanes; ++i) {
    const int16_t value = halves.part[i / 8][i % 8];
    bytes[i] = static_cast<uint8_t>(value < 0 ? 0 : value > 255 ? 255 : value);
  }
  return bytes;
#endif
}

// store_transposed of four rows of numbers, each as the nearest uint8.
inline void store_transposed(const Halves rows[4], uint32_t* target, int64_t step) {
#if defined(__AVX2__)
  // Two rows become bytes in one instruction; what that mixes up, the transposition puts right again.
  const auto pair = [&](int i) {
    return reinterpret_cast<__m256>(_mm256_packus_epi16(reinterpret_cast<__m256i>(rows[i].part[0]),
                                                        reinterpret_cast<__m256i>(rows[i + 1].part[0])));
  };
  const __m256 ab = pair(0);
  const __m256 cd = pair(2);
  const __m256 even = _mm256_shuffle_ps(ab, cd, 0x88);
  const __m256 odd = _mm256_shuffle_ps(ab, cd, 0xdd);
  store(reinterpret_cast<Words>(_mm256_castps256_ps128(even)), target);
  store(reinterpret_cast<Words>(_mm256_castps256_ps128(odd)), target + step);
  store(reinterpret_cast<Words>(_mm256_extractf128_ps(even, 1)), target + 2 * step);
  store(reinterpret_cast<Words>(_mm256_extractf128_ps(odd, 1)), target + 3 * step);
#else
  const Bytes bytes[4] = {narrow(rows[0]), narrow(rows[1]), narrow(rows[2]), narrow(rows[3])};
  store_transposed(bytes, target, step);
#endif
}

inline Numbers operator+(const Numbers& a, const Numbers& b) {
  Numbers sum;
  for (unsigned i = 0; i < sizeof sum.part / sizeof sum.part[0]; ++i) sum.part[i] = a.part[i] + b.part[i];
  return sum;
}

constexpr int kYuvBits = 20;
constexpr int32_t kLuma = 1220542;
constexpr int32_t kRedOfV = 1673527;
constexpr int32_t kGreenOfU = -409993;
constexpr int32_t kGreenOfV = -852492;
constexpr int32_t kBlueOfU = 2116026;

// What the chroma of 16 pixels adds to their channels.
struct Chroma {
  Numbers red, green, blue;

  Chroma(Bytes u, Bytes v) {
    Halves wide_u = widen(u);
    Halves wide_v = widen(v);
    for (Half& half : wide_u.part) half -= 128;
    for (Half& half : wide_v.part) half -= 128;
    red = products(wide_v, kRedOfV);
    green = products(wide_u, kGreenOfU) + products(wide_v, kGreenOfV);
    blue = products(wide_u, kBlueOfU);
  }
};

// R, G and B of 16 pixels, not yet clamped to 0...255.
inline void yuv_to_rgb(Bytes luma, const Chroma& chroma, Halves* red, Halves* green, Halves* blue) {
  luma = (luma > 16 ? luma : 16) - 16;
  Numbers scaled = products(widen(luma), kLuma);
  for (Part& part : scaled.part) part += 1 << (kYuvBits - 1);
  const auto finish = [&](const Numbers& part_of_chroma) {
    Numbers sum = scaled + part_of_chroma;
    for (Part& part : sum.part) part >>= kYuvBits;
    return narrow(sum);
  };
  *red = finish(chroma.red);
  *green = finish(chroma.green);
  *blue = finish(chroma.blue);
}

}  // namespace
}  // namespace mmedge
