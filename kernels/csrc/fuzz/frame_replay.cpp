// Runs plans and frames from a file through every variant that this processor runs.
//
//   frame_replay CASES OUTPUTS
//
// Writes the tensors of all cases for the first variant, then for the next, and prints the variants' names and how many
// memory allocations further runs with one thread made, which must be none. The tests write the cases and compare the
// tensors; this way processors are tested that have no Python with numpy at hand. tests/support/frame_drivers.py
// is the other side of the format.
#include <stdio.h>
#include <stdlib.h>

#include <memory>
#include <new>
#include <vector>

#include "frame.h"

namespace {
long allocations = 0;
}

// The linker's --wrap sends the library's calls of the C functions here; operator new is replaced.
extern "C" {
void* __real_malloc(size_t bytes);
void* __real_calloc(size_t count, size_t bytes);
void* __real_realloc(void* memory, size_t bytes);
void* __real_aligned_alloc(size_t alignment, size_t bytes);
int __real_posix_memalign(void** memory, size_t alignment, size_t bytes);

void* __wrap_malloc(size_t bytes) {
  ++allocations;
  return __real_malloc(bytes);
}
void* __wrap_calloc(size_t count, size_t bytes) {
  ++allocations;
  return __real_calloc(count, bytes);
}
void* __wrap_realloc(void* memory, size_t bytes) {
  ++allocations;
  return __real_realloc(memory, bytes);
}
void* __wrap_aligned_alloc(size_t alignment, size_t bytes) {
  ++allocations;
  return __real_aligned_alloc(alignment, bytes);
}
int __wrap_posix_memalign(void** memory, size_t alignment, size_t bytes) {
  ++allocations;
  return __real_posix_memalign(memory, alignment, bytes);
}
}

void* operator new(size_t bytes) {
  ++allocations;
  if (void* memory = __real_malloc(bytes)) return memory;
  abort();
}
void operator delete(void* memory) noexcept { free(memory); }
void operator delete(void* memory, size_t) noexcept { free(memory); }

namespace {

struct CloseFile {
  void operator()(FILE* file) const { fclose(file); }
};
using File = std::unique_ptr<FILE, CloseFile>;

File open_file(const char* path, const char* mode) {
  File file(fopen(path, mode));
  if (!file) {
    perror(path);
    exit(2);
  }
  return file;
}

template <typename Element>
std::vector<Element> read(FILE* file, size_t count) {
  std::vector<Element> elements(count);
  if (count != 0 && fread(elements.data(), sizeof(Element), count, file) != count) {
    fprintf(stderr, "the file of cases ends too early\n");
    exit(2);
  }
  return elements;
}

int32_t read_number(FILE* file) { return read<int32_t>(file, 1)[0]; }

struct Axis {
  int32_t quads;
  std::vector<int32_t> first, weights, packed;

  explicit Axis(FILE* file) {
    const auto count = static_cast<size_t>(read_number(file));
    quads = read_number(file);
    first = read<int32_t>(file, count);
    weights = read<int32_t>(file, count * static_cast<size_t>(quads) * 4);
    packed.resize(weights.size());
  }

  mmedge_frame_axis for_variant(int32_t variant) {
    mmedge_frame_pack(variant, weights.data(), static_cast<int64_t>(weights.size() / 4), packed.data());
    return {static_cast<int32_t>(first.size()), quads, first.data(), packed.data()};
  }
};

struct Case {
  mmedge_frame_plan plan{};
  int32_t threads, row_stride, frame_offset, frame_bytes, out_bytes;
  Axis horizontal, vertical, vertical_before;
  std::vector<uint8_t> values, frame;

  explicit Case(FILE* file)
      : plan(read_plan(file)),
        threads(read_number(file)),
        row_stride(read_number(file)),
        frame_offset(read_number(file)),
        frame_bytes(read_number(file)),
        out_bytes(read_number(file)),
        horizontal(file),
        vertical(file),
        vertical_before(file),
        values(read<uint8_t>(file, static_cast<size_t>(3 * 256 * plan.element_bytes))),
        frame(read<uint8_t>(file, static_cast<size_t>(frame_bytes))) {}

  // In the order in which the plan has them.
  static mmedge_frame_plan read_plan(FILE* file) {
    mmedge_frame_plan plan{};
    for (int32_t* number :
         {&plan.format, &plan.chroma_row, &plan.row0, &plan.rows, &plan.col0, &plan.cols, &plan.height, &plan.width,
          &plan.top, &plan.left, &plan.pad_value, &plan.channels_last, &plan.element_bytes}) {
      *number = read_number(file);
    }
    return plan;
  }

  std::vector<uint8_t> run(int32_t variant, long* allocated) {
    plan.values = values.data();
    plan.horizontal = horizontal.for_variant(variant);
    plan.vertical = vertical.for_variant(variant);
    plan.vertical_before = vertical_before.for_variant(variant);
    std::vector<uint8_t> out(static_cast<size_t>(out_bytes), 0xa5);
    std::vector<uint32_t> scratch(static_cast<size_t>(mmedge_frame_scratch_bytes(&plan, threads) / 4));
    std::vector<uint32_t> scratch_of_one(static_cast<size_t>(mmedge_frame_scratch_bytes(&plan, 1) / 4));
    const uint8_t* row0 = frame.data() + frame_offset;
    mmedge_frame_run(variant, &plan, row0, row_stride, out.data(), scratch.data(), threads);
    std::vector<uint8_t> again(out.size());
    const long before = allocations;
    mmedge_frame_run(variant, &plan, row0, row_stride, again.data(), scratch_of_one.data(), 1);
    *allocated += allocations - before;
    if (again != out) {
      fprintf(stderr, "%s gives another result with one thread\n", mmedge_frame_variant_name(variant));
      exit(1);
    }
    return out;
  }
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: %s CASES OUTPUTS\n", argv[0]);
    return 2;
  }
  const File input = open_file(argv[1], "rb");
  const File output = open_file(argv[2], "wb");
  std::vector<Case> cases;
  const int32_t count = read_number(input.get());
  for (int32_t i = 0; i < count; ++i) cases.emplace_back(input.get());
  long allocated = 0;
  for (int32_t variant = 0; variant < mmedge_frame_variants(); ++variant) {
    printf("%s ", mmedge_frame_variant_name(variant));
    for (Case& made : cases) {
      const std::vector<uint8_t> out = made.run(variant, &allocated);
      if (fwrite(out.data(), 1, out.size(), output.get()) != out.size()) {
        perror(argv[2]);
        return 2;
      }
    }
  }
  printf("\nallocations %ld\n", allocated);
  return 0;
}
