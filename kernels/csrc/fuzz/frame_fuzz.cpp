// Random plans and frames through every variant that this processor runs, compared with a plain scalar form.
//
//   frame_fuzz [CASES] [SEED]
//
// A long run, from the root of the repository:
//
//   export CXXFLAGS="-fsanitize=address,undefined -fno-sanitize-recover=all -O1 -g1"
//   cmake -S . -B build/fuzz -DCMAKE_BUILD_TYPE=Sanitized && cmake --build build/fuzz --target frame_fuzz
//   build/fuzz/frame_fuzz 100000 $RANDOM
//
// Under the sanitizers frames, outputs and working memory are heap blocks of exactly their size, and what a plan does
// not need of a frame is poisoned. Weights are random, not those of a filter, so that sums leave 0...255 on both sides
// and windows begin and end anywhere.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <memory>
#include <random>
#include <vector>

#include "frame.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#endif

namespace {

std::mt19937_64 random_bits;

int64_t pick(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(random_bits); }
bool once_in(int n) { return pick(1, n) == 1; }

int64_t pick_size() { return once_in(12) ? pick(1, 700) : once_in(3) ? pick(1, 80) : pick(1, 20); }

void fill(std::vector<uint8_t>& bytes) {
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(once_in(3) ? pick(0, 1) * 255 : pick(0, 255));
}

struct FreeBytes {
  void operator()(uint8_t* bytes) const { free(bytes); }
};
using Block = std::unique_ptr<uint8_t, FreeBytes>;

Block make_block(size_t bytes) { return Block(static_cast<uint8_t*>(malloc(bytes))); }

// One axis: output i is the sum of weights[i][t] times sample start[i] + t.
struct Axis {
  int64_t extent = 0;
  std::vector<int64_t> start;
  std::vector<std::vector<int32_t>> weights;
};

// Weights whose sum is near 1 and whose absolute values add up to less than 2.
std::vector<int32_t> pick_weights(int64_t length) {
  const int32_t one = 1 << 22;
  std::vector<int32_t> weights(static_cast<size_t>(length));
  if (length == 1 || once_in(8)) {
    weights[static_cast<size_t>(pick(0, length - 1))] = static_cast<int32_t>(pick(one - 9, one + 9));
    return weights;
  }
  double total = 0;
  std::vector<double> shares(weights.size());
  for (double& share : shares) total += std::abs(share = static_cast<double>(pick(-300, 1000)));
  const double scale = one * static_cast<double>(pick(90, 180)) / 100 / std::max(total, 1.0);
  for (size_t i = 0; i < weights.size(); ++i) weights[i] = static_cast<int32_t>(shares[i] * scale);
  return weights;
}

Axis pick_axis(int64_t count) {
  Axis axis;
  const int64_t longest = pick(1, once_in(6) ? 90 : 12);
  int64_t start = 0;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t length = pick(1, longest);
    axis.start.push_back(start);
    axis.weights.push_back(pick_weights(length));
    axis.extent = std::max(axis.extent, start + length);
    start += once_in(15) ? pick(0, 40) : pick(0, 3);
  }
  return axis;
}

Axis unit_axis(int64_t count) {
  Axis axis;
  axis.extent = count;
  for (int64_t i = 0; i < count; ++i) axis.start.push_back(i);
  axis.weights.assign(static_cast<size_t>(count), {1 << 22});
  return axis;
}

// An axis in the form of the library, for one variant.
struct PackedAxis {
  std::vector<int32_t> first, packed;
  mmedge_frame_axis view{};

  PackedAxis() = default;
  PackedAxis(const Axis& axis, int32_t variant) {
    int64_t quads = 1;
    for (size_t i = 0; i < axis.start.size(); ++i) {
      quads = std::max<int64_t>(quads, (axis.start[i] % 4 + static_cast<int64_t>(axis.weights[i].size()) + 3) / 4);
    }
    const int64_t last = (axis.extent + 3) / 4 - quads;
    std::vector<int32_t> weights(axis.start.size() * static_cast<size_t>(quads) * 4);
    for (size_t i = 0; i < axis.start.size(); ++i) {
      first.push_back(static_cast<int32_t>(std::min(axis.start[i] / 4, last)));
      const size_t before = static_cast<size_t>(axis.start[i] - first[i] * 4);
      std::copy(axis.weights[i].begin(), axis.weights[i].end(), weights.begin() + i * quads * 4 + before);
    }
    packed.resize(weights.size());
    mmedge_frame_pack(variant, weights.data(), static_cast<int64_t>(weights.size() / 4), packed.data());
    view = {static_cast<int32_t>(first.size()), static_cast<int32_t>(quads), first.data(), packed.data()};
  }
};

struct Case {
  mmedge_frame_plan plan{};  // without its pointers
  Axis horizontal, vertical;
  bool vertical_first = false;
  int64_t frame_rows = 0, row_bytes = 0, row_step = 0;  // rows of bytes, NV12's chroma among them
  std::vector<uint8_t> frame;                           // those rows without gaps
  std::vector<uint8_t> values;
  int32_t threads = 1;
};

int64_t even(int64_t size, bool wanted) { return wanted ? (size + 1) / 2 * 2 : size; }

Case pick_case() {
  Case made;
  mmedge_frame_plan& plan = made.plan;
  plan.format = static_cast<int32_t>(pick(MMEDGE_FRAME_RGB, MMEDGE_FRAME_YUYV));
  const bool nv12 = plan.format == MMEDGE_FRAME_NV12;
  const bool pairs = nv12 || plan.format == MMEDGE_FRAME_YUYV;
  made.horizontal = pick_axis(pick_size());
  made.vertical = pick_axis(pick_size());
  made.vertical_first = once_in(2);
  plan.rows = static_cast<int32_t>(made.vertical.extent);
  plan.cols = static_cast<int32_t>(even(made.horizontal.extent, pairs));
  plan.row0 = static_cast<int32_t>(even(pick(0, 5), nv12));
  plan.col0 = static_cast<int32_t>(even(pick(0, 30), pairs));
  const int64_t height = even(plan.row0 + plan.rows + pick(0, 3), nv12);
  const int64_t width = even(plan.col0 + plan.cols + pick(0, 30), pairs);
  plan.chroma_row = static_cast<int32_t>(nv12 ? height : 0);
  const int64_t pixel = plan.format == MMEDGE_FRAME_YUYV ? 2 : plan.format <= MMEDGE_FRAME_BGR ? 3 : 1;
  made.frame_rows = nv12 ? height / 2 * 3 : height;
  made.row_bytes = width * pixel;
  made.row_step = (made.row_bytes + (once_in(2) ? 0 : pick(0, 70))) * (once_in(4) ? -1 : 1);
  made.frame.resize(static_cast<size_t>(made.frame_rows * made.row_bytes));
  fill(made.frame);
  plan.top = static_cast<int32_t>(once_in(2) ? 0 : pick(0, 9));
  plan.left = static_cast<int32_t>(once_in(2) ? 0 : pick(0, 9));
  plan.height = static_cast<int32_t>(plan.top + static_cast<int64_t>(made.vertical.start.size()) + pick(0, 5));
  plan.width = static_cast<int32_t>(plan.left + static_cast<int64_t>(made.horizontal.start.size()) + pick(0, 5));
  plan.pad_value = static_cast<int32_t>(pick(0, 255));
  plan.channels_last = static_cast<int32_t>(pick(0, 1));
  plan.element_bytes = 1 << pick(0, 2);
  made.values.resize(static_cast<size_t>(3 * 256 * plan.element_bytes));
  fill(made.values);
  made.threads = static_cast<int32_t>(pick(1, std::min<int64_t>(4, plan.height)));
  return made;
}

uint8_t clamped(int64_t value) { return static_cast<uint8_t>(std::clamp<int64_t>(value, 0, 255)); }

// R, G or B of one pixel of the needed part.
uint8_t sample(const Case& made, int channel, int64_t row, int64_t col) {
  const mmedge_frame_plan& plan = made.plan;
  row += plan.row0;
  col += plan.col0;
  const auto byte = [&](int64_t at_row, int64_t at) {
    return int64_t{made.frame[static_cast<size_t>(at_row * made.row_bytes + at)]};
  };
  int64_t y = 0, u = 0, v = 0;
  switch (plan.format) {
    case MMEDGE_FRAME_RGB: return clamped(byte(row, 3 * col + channel));
    case MMEDGE_FRAME_BGR: return clamped(byte(row, 3 * col + 2 - channel));
    case MMEDGE_FRAME_GREY: return clamped(byte(row, col));
    case MMEDGE_FRAME_NV12:
      y = byte(row, col);
      u = byte(plan.chroma_row + row / 2, col / 2 * 2);
      v = byte(plan.chroma_row + row / 2, col / 2 * 2 + 1);
      break;
    default:
      y = byte(row, 2 * col);
      u = byte(row, col / 2 * 4 + 1);
      v = byte(row, col / 2 * 4 + 3);
  }
  y = std::max<int64_t>(y - 16, 0);
  u -= 128;
  v -= 128;
  const int64_t chroma = channel == 0 ? 1673527 * v : channel == 1 ? -409993 * u - 852492 * v : 2116026 * u;
  const int64_t sum = 1220542 * y + chroma + (1 << 19);
  return clamped(sum < 0 ? 0 : sum >> 20);
}

struct Plane {
  int64_t rows, cols;
  std::vector<uint8_t> samples;
};

Plane resampled(const Plane& plane, const Axis& axis, bool vertical) {
  const auto count = static_cast<int64_t>(axis.start.size());
  Plane made{vertical ? count : plane.rows, vertical ? plane.cols : count, {}};
  for (int64_t row = 0; row < made.rows; ++row) {
    for (int64_t col = 0; col < made.cols; ++col) {
      const auto output = static_cast<size_t>(vertical ? row : col);
      int64_t sum = 1 << 21;
      for (size_t t = 0; t < axis.weights[output].size(); ++t) {
        const int64_t at = axis.start[output] + static_cast<int64_t>(t);
        sum += int64_t{axis.weights[output][t]} *
               plane.samples[static_cast<size_t>(vertical ? at * plane.cols + col : row * plane.cols + at)];
      }
      made.samples.push_back(clamped(sum < 0 ? 0 : sum >> 22));
    }
  }
  return made;
}

std::vector<uint8_t> expected(const Case& made) {
  const mmedge_frame_plan& plan = made.plan;
  const auto bytes = static_cast<size_t>(plan.element_bytes);
  std::vector<uint8_t> out(static_cast<size_t>(plan.height) * plan.width * 3 * bytes);
  for (int channel = 0; channel < 3; ++channel) {
    Plane plane{plan.rows, plan.cols, {}};
    for (int64_t row = 0; row < plan.rows; ++row) {
      for (int64_t col = 0; col < plan.cols; ++col) plane.samples.push_back(sample(made, channel, row, col));
    }
    plane = resampled(plane, made.vertical_first ? made.vertical : made.horizontal, made.vertical_first);
    plane = resampled(plane, made.vertical_first ? made.horizontal : made.vertical, !made.vertical_first);
    for (int64_t row = 0; row < plan.height; ++row) {
      for (int64_t col = 0; col < plan.width; ++col) {
        const int64_t y = row - plan.top, x = col - plan.left;
        const bool inside = y >= 0 && y < plane.rows && x >= 0 && x < plane.cols;
        const int64_t value = inside ? plane.samples[static_cast<size_t>(y * plane.cols + x)] : plan.pad_value;
        const int64_t at = plan.channels_last ? (row * plan.width + col) * 3 + channel
                                              : (channel * int64_t{plan.height} + row) * plan.width + col;
        memcpy(&out[static_cast<size_t>(at) * bytes], &made.values[static_cast<size_t>(channel * 256 + value) * bytes],
               bytes);
      }
    }
  }
  return out;
}

// The frame in memory of its own in which only the needed bytes may be read.
struct GuardedFrame {
  Block block;
  size_t bytes;
  uint8_t* row0;

  explicit GuardedFrame(const Case& made) {
    const int64_t step = std::abs(made.row_step);
    bytes = static_cast<size_t>((made.frame_rows - 1) * step + made.row_bytes);
    block = make_block(bytes);
    row0 = block.get() + (made.row_step < 0 ? (made.frame_rows - 1) * step : 0);
    for (int64_t row = 0; row < made.frame_rows; ++row) {
      memcpy(row0 + row * made.row_step, &made.frame[static_cast<size_t>(row * made.row_bytes)],
             static_cast<size_t>(made.row_bytes));
    }
    ASAN_POISON_MEMORY_REGION(block.get(), bytes);
    const mmedge_frame_plan& plan = made.plan;
    const int64_t pixel = plan.format == MMEDGE_FRAME_YUYV ? 2 : plan.format <= MMEDGE_FRAME_BGR ? 3 : 1;
    const auto allow = [&](int64_t row) {
      ASAN_UNPOISON_MEMORY_REGION(row0 + row * made.row_step + plan.col0 * pixel,
                                  static_cast<size_t>(plan.cols * pixel));
    };
    for (int64_t row = plan.row0; row < plan.row0 + plan.rows; ++row) {
      allow(row);
      if (plan.format == MMEDGE_FRAME_NV12) allow(plan.chroma_row + row / 2);
    }
  }

  ~GuardedFrame() { ASAN_UNPOISON_MEMORY_REGION(block.get(), bytes); }
};

bool run(const Case& made, int32_t variant, const std::vector<uint8_t>& wanted) {
  const PackedAxis horizontal(made.horizontal, variant);
  const PackedAxis vertical(made.vertical, variant);
  const PackedAxis unit(unit_axis(static_cast<int64_t>(made.vertical.start.size())), variant);
  mmedge_frame_plan plan = made.plan;
  const GuardedFrame frame(made);
  const Block values = make_block(made.values.size());
  memcpy(values.get(), made.values.data(), made.values.size());
  plan.values = values.get();
  plan.horizontal = horizontal.view;
  plan.vertical = made.vertical_first ? unit.view : vertical.view;
  if (made.vertical_first) plan.vertical_before = vertical.view;
  const auto scratch_bytes = static_cast<size_t>(mmedge_frame_scratch_bytes(&plan, made.threads));
  const Block scratch = make_block(scratch_bytes);
  memset(scratch.get(), static_cast<int>(pick(0, 255)), scratch_bytes);
  const Block out = make_block(wanted.size());
  for (size_t i = 0; i < wanted.size(); ++i) out.get()[i] = static_cast<uint8_t>(wanted[i] ^ 0xff);
  mmedge_frame_run(variant, &plan, frame.row0, made.row_step, out.get(), scratch.get(), made.threads);
  return memcmp(out.get(), wanted.data(), wanted.size()) == 0;
}

}  // namespace

int main(int argc, char** argv) {
  const long cases = argc > 1 ? atol(argv[1]) : 1000;
  const unsigned long long seed = argc > 2 ? strtoull(argv[2], nullptr, 10) : 1;
  for (long i = 0; i < cases; ++i) {
    random_bits.seed(seed * 1000003 + static_cast<unsigned long long>(i));
    const Case made = pick_case();
    const std::vector<uint8_t> wanted = expected(made);
    for (int32_t variant = 0; variant < mmedge_frame_variants(); ++variant) {
      if (run(made, variant, wanted)) continue;
      const mmedge_frame_plan& plan = made.plan;
      fprintf(stderr, "case %ld of seed %llu: %s differs; format %d, needed %d x %d at (%d, %d), vertical first %d, ",
              i, seed, mmedge_frame_variant_name(variant), plan.format, plan.rows, plan.cols, plan.row0, plan.col0,
              made.vertical_first);
      fprintf(stderr, "output %d x %d of %d bytes, row step %lld, threads %d\n", plan.height, plan.width,
              plan.element_bytes, static_cast<long long>(made.row_step), made.threads);
      return 1;
    }
  }
  for (int32_t variant = 0; variant < mmedge_frame_variants(); ++variant) {
    printf("%s%s", variant == 0 ? "" : " ", mmedge_frame_variant_name(variant));
  }
  printf(": %ld cases\n", cases);
  return 0;
}
