// Chooses the instruction-set variant, splits the rows among threads, and is the C interface.
#include "frame.h"

#include <exception>
#include <thread>
#include <vector>

#include "frame_variant.h"

namespace mmedge {

extern const Variant kPortableVariant;
#if defined(MMEDGE_HAVE_SSE4)
extern const Variant kSse4Variant;
#endif
#if defined(MMEDGE_HAVE_AVX2)
extern const Variant kAvx2Variant;
#endif
#if defined(MMEDGE_HAVE_AVX_VNNI)
extern const Variant kAvxVnniVariant;
#endif
#if defined(MMEDGE_HAVE_AVX512_VNNI)
extern const Variant kAvx512VnniVariant;
#endif
#if defined(MMEDGE_HAVE_DOTPROD)
extern const Variant kDotprodVariant;
#endif

namespace {

std::vector<const Variant*> find_variants() {
  const Variant* const compiled[] = {
#if defined(MMEDGE_HAVE_AVX512_VNNI)
      &kAvx512VnniVariant,
#endif
#if defined(MMEDGE_HAVE_AVX_VNNI)
      &kAvxVnniVariant,
#endif
#if defined(MMEDGE_HAVE_AVX2)
      &kAvx2Variant,
#endif
#if defined(MMEDGE_HAVE_SSE4)
      &kSse4Variant,
#endif
#if defined(MMEDGE_HAVE_DOTPROD)
      &kDotprodVariant,
#endif
      &kPortableVariant,
  };
#if defined(__x86_64__) || defined(__i386__)
  __builtin_cpu_init();  // the variants ask with __builtin_cpu_supports
#endif
  std::vector<const Variant*> usable;
  for (const Variant* variant : compiled) {
    if (variant->supported()) usable.push_back(variant);
  }
  return usable;
}

const std::vector<const Variant*>& variants() {
  static const std::vector<const Variant*> usable = find_variants();
  return usable;
}

const Variant& variant_at(int32_t index) { return *variants()[static_cast<size_t>(index)]; }

int64_t band_words(const mmedge_frame_plan& plan, int32_t threads) {
  const int64_t band_rows = (int64_t{plan.height} + threads - 1) / threads;
  return scratch_layout(plan, band_rows).total_words;
}

}  // namespace
}  // namespace mmedge

int32_t mmedge_frame_interface(void) { return MMEDGE_FRAME_INTERFACE; }

int32_t mmedge_frame_variants(void) { return static_cast<int32_t>(mmedge::variants().size()); }

const char* mmedge_frame_variant_name(int32_t variant) { return mmedge::variant_at(variant).name; }

void mmedge_frame_pack(int32_t variant, const int32_t* weights, int64_t count, int32_t* packed) {
  mmedge::variant_at(variant).pack(weights, count, packed);
}

int64_t mmedge_frame_scratch_bytes(const mmedge_frame_plan* plan, int32_t threads) {
  return mmedge::band_words(*plan, threads) * 4 * threads;
}

void mmedge_frame_run(int32_t variant, const mmedge_frame_plan* plan, const uint8_t* frame, int64_t row_stride,
                      void* out, void* scratch, int32_t threads) {
  const mmedge::Variant& chosen = mmedge::variant_at(variant);
  const int64_t words = mmedge::band_words(*plan, threads);
  const auto run_band = [&](int32_t band) {
    const int64_t height = plan->height;
    const auto begin = static_cast<int32_t>(height * band / threads);
    const auto end = static_cast<int32_t>(height * (band + 1) / threads);
    chosen.run_rows(*plan, frame, row_stride, out, begin, end, static_cast<uint32_t*>(scratch) + words * band);
  };
  if (threads == 1) {
    run_band(0);
    return;
  }
  std::vector<std::thread> helpers;
  int32_t band = 1;
  try {
    helpers.reserve(static_cast<size_t>(threads - 1));
    for (; band < threads; ++band) helpers.emplace_back(run_band, band);
  } catch (const std::exception&) {
    // The system gives no more threads: this one does the bands that are left.
  }
  for (; band < threads; ++band) run_band(band);
  run_band(0);
  for (std::thread& helper : helpers) helper.join();
}
