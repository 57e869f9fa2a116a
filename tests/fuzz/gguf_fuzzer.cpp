// Any bytes: parsed, or refused in one line. What is accepted must be readable to its last byte, and the
// writer must be able to repeat it.
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "gguf/file.h"
#include "gguf/writer.h"

namespace {

using namespace packmule;

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "gguf_fuzzer: %s\n", what);
  std::abort();
}

void read_all(const gguf::File& file) {
  for (const gguf::KeyValue& entry : file.metadata()) {
    require(file.find(entry.key) == &entry.value, "a key is not found by its name");
    // Every accessor on every key: the wrong ones must say so.
    (void)file.get_u64(entry.key);
    (void)file.get_f64(entry.key);
    (void)file.get_bool(entry.key);
    (void)file.get_string(entry.key);
    (void)file.get_strings(entry.key);
    (void)file.get_integers(entry.key);
  }
  uint64_t sum = 0;
  for (const gguf::TensorInfo& tensor : file.tensors()) {
    require(file.find_tensor(tensor.name) == &tensor, "a tensor is not found by its name");
    require(static_cast<uint64_t>(tensor.n_elems() / tensor.ne[0] * tensor.row_bytes()) == tensor.size_bytes,
            "rows and size disagree");
    for (uint64_t i = 0; i < tensor.size_bytes; ++i) sum += static_cast<uint64_t>(tensor.data[i]);
  }
  volatile uint64_t kept = sum;  // the reads must happen
  (void)kept;
}

void write_again(const gguf::File& file) {
  gguf::Writer writer;
  for (const gguf::KeyValue& entry : file.metadata())
    writer.set(std::string(entry.key), gguf::copy_value(entry.value));
  // The writer insists on u32 for the alignment, the reader does not.
  writer.remove("general.alignment");
  for (const gguf::TensorInfo& tensor : file.tensors())
    writer.add_tensor(std::string(tensor.name), {tensor.ne.begin(), tensor.ne.begin() + tensor.n_dims},
                      tensor.format->type, std::span(tensor.data, tensor.size_bytes));
  const auto bytes = writer.bytes();
  require(bytes.has_value(), "an accepted file cannot be written");
  const auto copy = gguf::File::parse(*bytes, "copy");
  require(copy.has_value(), "the copy of an accepted file is refused");
  require(copy->tensors().size() == file.tensors().size(), "the copy lost tensors");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto file = gguf::File::parse(std::as_bytes(std::span(data, size)), "input");
  if (!file) {
    require(!file.error().message.empty() && file.error().message.find('\n') == std::string::npos,
            "an error is not one line");
    return 0;
  }
  read_all(*file);
  write_again(*file);
  return 0;
}
