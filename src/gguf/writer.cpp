#include "gguf/writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "base/utf8.h"
#include "gguf/parse.h"
#include "gguf/split.h"

namespace packmule::gguf {
namespace {

constexpr size_t kChunkBytes = size_t{8} << 20;

uint64_t align_up(uint64_t offset, uint64_t alignment) {
  return (offset + alignment - 1) / alignment * alignment;
}

template <class T>
constexpr ValueType value_type_of() {
  if constexpr (std::is_same_v<T, uint8_t>) return ValueType::kU8;
  if constexpr (std::is_same_v<T, int8_t>) return ValueType::kI8;
  if constexpr (std::is_same_v<T, uint16_t>) return ValueType::kU16;
  if constexpr (std::is_same_v<T, int16_t>) return ValueType::kI16;
  if constexpr (std::is_same_v<T, uint32_t>) return ValueType::kU32;
  if constexpr (std::is_same_v<T, int32_t>) return ValueType::kI32;
  if constexpr (std::is_same_v<T, float>) return ValueType::kF32;
  if constexpr (std::is_same_v<T, bool>) return ValueType::kBool;
  if constexpr (std::is_same_v<T, std::string>) return ValueType::kString;
  if constexpr (std::is_same_v<T, uint64_t>) return ValueType::kU64;
  if constexpr (std::is_same_v<T, int64_t>) return ValueType::kI64;
  if constexpr (std::is_same_v<T, double>) return ValueType::kF64;
}

template <class T>
void append(std::string& out, const T& value) {
  if constexpr (std::is_same_v<T, std::string>) {
    append(out, uint64_t{value.size()});
    out += value;
  } else if constexpr (std::is_same_v<T, bool>) {
    out += value ? '\1' : '\0';
  } else {
    static_assert(std::is_arithmetic_v<T>);
    out.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
}

template <class T>
struct IsVector : std::false_type {};
template <class T>
struct IsVector<std::vector<T>> : std::true_type {};

void append_value(std::string& out, const NewValue& value) {
  std::visit(
      [&]<class T>(const T& held) {
        if constexpr (IsVector<T>::value) {
          using Element = typename T::value_type;
          append(out, static_cast<uint32_t>(ValueType::kArray));
          append(out, static_cast<uint32_t>(value_type_of<Element>()));
          append(out, uint64_t{held.size()});
          for (const Element& element : held) append(out, element);
        } else {
          append(out, static_cast<uint32_t>(value_type_of<T>()));
          append(out, held);
        }
      },
      value);
}

/// The elements of an array as `To`: what the reader widened becomes narrow again.
template <class To>
NewValue copy_elements(const Array& array) {
  std::vector<To> copy;
  std::visit(
      [&]<class From>(const std::vector<From>& elements) {
        if constexpr (std::is_constructible_v<To, From>)
          for (const From& element : elements) copy.push_back(static_cast<To>(element));
      },
      array.values);
  return copy;
}

tl::unexpected<Error> wrong_tensor(std::string_view name, std::string_view words) {
  return fail(ErrorKind::kInvalidArgument, "cannot write tensor '{}': {}", printable(name, 80), words);
}

}  // namespace

NewValue copy_value(const Value& value) {
  if (const auto* array = std::get_if<Array>(&value.value)) {
    switch (array->element_type) {
      case ValueType::kU8:
        return copy_elements<uint8_t>(*array);
      case ValueType::kI8:
        return copy_elements<int8_t>(*array);
      case ValueType::kU16:
        return copy_elements<uint16_t>(*array);
      case ValueType::kI16:
        return copy_elements<int16_t>(*array);
      case ValueType::kU32:
        return copy_elements<uint32_t>(*array);
      case ValueType::kI32:
        return copy_elements<int32_t>(*array);
      case ValueType::kF32:
        return copy_elements<float>(*array);
      case ValueType::kBool:
        return copy_elements<bool>(*array);
      case ValueType::kString:
        return copy_elements<std::string>(*array);
      case ValueType::kU64:
        return copy_elements<uint64_t>(*array);
      case ValueType::kI64:
        return copy_elements<int64_t>(*array);
      case ValueType::kF64:
        return copy_elements<double>(*array);
      case ValueType::kArray:
        break;  // the reader refuses arrays of arrays
    }
    return std::vector<uint8_t>();
  }
  switch (value.type) {
    case ValueType::kU8:
      return static_cast<uint8_t>(std::get<uint64_t>(value.value));
    case ValueType::kU16:
      return static_cast<uint16_t>(std::get<uint64_t>(value.value));
    case ValueType::kU32:
      return static_cast<uint32_t>(std::get<uint64_t>(value.value));
    case ValueType::kU64:
      return std::get<uint64_t>(value.value);
    case ValueType::kI8:
      return static_cast<int8_t>(std::get<int64_t>(value.value));
    case ValueType::kI16:
      return static_cast<int16_t>(std::get<int64_t>(value.value));
    case ValueType::kI32:
      return static_cast<int32_t>(std::get<int64_t>(value.value));
    case ValueType::kI64:
      return std::get<int64_t>(value.value);
    case ValueType::kF32:
      return static_cast<float>(std::get<double>(value.value));
    case ValueType::kF64:
      return std::get<double>(value.value);
    case ValueType::kBool:
      return std::get<bool>(value.value);
    case ValueType::kString:
    case ValueType::kArray:
      break;
  }
  return std::string(std::get<std::string_view>(value.value));
}

// ---- where the bytes go ----

class Writer::Sink {
 public:
  virtual ~Sink() = default;
  /// Told once, before the first put.
  virtual Status start(uint64_t size_bytes) = 0;
  virtual Status put(std::span<const std::byte> bytes) = 0;
};

class Writer::MemorySink : public Writer::Sink {
 public:
  Status start(uint64_t size_bytes) override {
    bytes.reserve(size_bytes);
    return {};
  }
  Status put(std::span<const std::byte> more) override {
    bytes.insert(bytes.end(), more.begin(), more.end());
    return {};
  }
  std::vector<std::byte> bytes;
};

/// A file beside the one wanted: complete() ends it, publish() gives it its name. Removed if that never
/// happens.
class Writer::FileSink : public Writer::Sink {
 public:
  explicit FileSink(std::string path)
      : path_(std::move(path)), temporary_(fmt::format("{}.{}.part", path_, getpid())) {}
  FileSink(const FileSink&) = delete;
  FileSink& operator=(const FileSink&) = delete;
  ~FileSink() override {
    if (fd_ >= 0) close(fd_);
    if (exists_) unlink(temporary_.c_str());
  }

  Status start(uint64_t size_bytes) override {
    fd_ = open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd_ < 0) return io_error("create");
    exists_ = true;
    // Asks for the space now; file systems that cannot say run out of it later, in put().
    if (fallocate(fd_, 0, 0, static_cast<off_t>(size_bytes)) != 0 && (errno == ENOSPC || errno == EFBIG))
      return fail(ErrorKind::kIo, "cannot write {}: it takes {} bytes: {}", path_, size_bytes,
                  std::strerror(errno));
    return {};
  }

  Status put(std::span<const std::byte> bytes) override {
    while (!bytes.empty()) {
      const ssize_t n = ::write(fd_, bytes.data(), bytes.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return io_error("write");
      bytes = bytes.subspan(static_cast<size_t>(n));
    }
    return {};
  }

  Status complete() {
    if (close(std::exchange(fd_, -1)) != 0) return io_error("write");
    return {};
  }

  Status publish() {
    if (rename(temporary_.c_str(), path_.c_str()) != 0) return io_error("create");
    exists_ = false;
    return {};
  }

 private:
  [[nodiscard]] tl::unexpected<Error> io_error(std::string_view what) const {
    return fail(ErrorKind::kIo, "cannot {} {}: {}", what, path_, std::strerror(errno));
  }

  std::string path_;
  std::string temporary_;
  int fd_ = -1;
  bool exists_ = false;  // the temporary file
};

// ---- Writer ----

void Writer::set(std::string key, NewValue value) {
  if (key == kSplitNo || key == kSplitCount || key == kSplitTensorsCount) return;
  const auto at = std::find_if(keys_.begin(), keys_.end(), [&](const Key& k) { return k.name == key; });
  if (at != keys_.end())
    at->value = std::move(value);
  else
    keys_.push_back({std::move(key), std::move(value)});
}

void Writer::remove(std::string_view key) {
  std::erase_if(keys_, [&](const Key& k) { return k.name == key; });
}

void Writer::add_tensor(std::string name, std::vector<int64_t> ne, quant::Type type,
                        std::span<const std::byte> bytes) {
  tensors_.push_back({std::move(name), std::move(ne), type, bytes});
}

void Writer::add_tensor(std::string name, std::vector<int64_t> ne, quant::Type type, FillTensor fill) {
  tensors_.push_back({std::move(name), std::move(ne), type, std::move(fill)});
}

uint64_t Writer::Tensor::size_bytes() const {
  uint64_t n_rows = 1;
  for (size_t d = 1; d < ne.size(); ++d) n_rows *= static_cast<uint64_t>(ne[d]);
  return n_rows * static_cast<uint64_t>(quant::row_bytes(quant::format_of(type), ne[0]));
}

Result<uint64_t> Writer::alignment() const {
  for (const Key& key : keys_) {
    if (key.name != kAlignmentKey) continue;
    const auto* value = std::get_if<uint32_t>(&key.value);
    if (value == nullptr || !std::has_single_bit(*value) || *value < kMinAlignment || *value > kMaxAlignment)
      return fail(ErrorKind::kInvalidArgument,
                  "cannot write key '{}': expected a u32, a power of two from {} to {}", kAlignmentKey,
                  kMinAlignment, kMaxAlignment);
    return *value;
  }
  return kDefaultAlignment;
}

Status Writer::check() const {
  PACKMULE_TRY([[maybe_unused]] const auto checked, alignment());
  if (keys_.size() > kMaxKeys || tensors_.size() > kMaxTensors)
    return fail(ErrorKind::kInvalidArgument,
                "cannot write {} keys and {} tensors: a file has at most {} keys and {} tensors",
                keys_.size(), tensors_.size(), kMaxKeys, kMaxTensors);
  for (const Key& key : keys_)
    if (key.name.empty() || key.name.size() > kMaxKeyBytes || !is_valid_utf8(key.name))
      return fail(ErrorKind::kInvalidArgument, "cannot write key '{}': expected 1 to {} bytes of UTF-8",
                  printable(key.name, 80), kMaxKeyBytes);
  std::vector<std::string_view> names;
  for (const Tensor& tensor : tensors_) {
    names.push_back(tensor.name);
    if (tensor.name.empty() || tensor.name.size() > kMaxTensorNameBytes || !is_valid_utf8(tensor.name))
      return wrong_tensor(tensor.name,
                          fmt::format("expected a name of 1 to {} bytes of UTF-8", kMaxTensorNameBytes));
    const quant::Format* format = quant::find_format(static_cast<uint32_t>(tensor.type));
    if (format == nullptr)
      return wrong_tensor(tensor.name,
                          fmt::format("the type id {} is not known", static_cast<uint32_t>(tensor.type)));
    if (tensor.ne.empty() || tensor.ne.size() > 4)
      return wrong_tensor(tensor.name, fmt::format("expected 1 to 4 dimensions, found {}", tensor.ne.size()));
    int64_t size_bits = 8 * int64_t{format->block_bytes};  // bounds weights and bytes at once
    for (const int64_t n : tensor.ne)
      if (n < 1 || __builtin_mul_overflow(size_bits, n, &size_bits))
        return wrong_tensor(tensor.name, fmt::format("a dimension of {} is out of range", n));
    if (tensor.ne[0] % format->block_elems != 0)
      return wrong_tensor(tensor.name,
                          fmt::format("expected rows of a multiple of {} weights (the block of {}), found {}",
                                      format->block_elems, format->name, tensor.ne[0]));
    const auto* bytes = std::get_if<std::span<const std::byte>>(&tensor.source);
    if (bytes != nullptr && bytes->size() != tensor.size_bytes())
      return wrong_tensor(tensor.name, fmt::format("expected {} bytes of data, found {}", tensor.size_bytes(),
                                                   bytes->size()));
  }
  if (const auto twice = NameIndex(names).find_duplicate())
    return wrong_tensor(names[twice->first], "it was added twice");
  return {};
}

Status Writer::write_shard(Sink& sink, std::span<const Key> keys, std::span<const Tensor> tensors) const {
  PACKMULE_TRY(const uint64_t alignment_bytes, alignment());
  std::string header = "GGUF";
  append(header, uint32_t{3});
  append(header, uint64_t{tensors.size()});
  append(header, uint64_t{keys.size()});
  for (const Key& key : keys) {
    append(header, key.name);
    append_value(header, key.value);
  }
  uint64_t data_bytes = 0;
  for (const Tensor& tensor : tensors) {
    append(header, tensor.name);
    append(header, static_cast<uint32_t>(tensor.ne.size()));
    for (const int64_t n : tensor.ne) append(header, n);
    append(header, static_cast<uint32_t>(tensor.type));
    append(header, data_bytes);
    data_bytes = align_up(data_bytes + tensor.size_bytes(), alignment_bytes);
  }
  header.resize(align_up(header.size(), alignment_bytes));
  PACKMULE_TRY_STATUS(sink.start(header.size() + data_bytes));
  PACKMULE_TRY_STATUS(sink.put(std::as_bytes(std::span(header))));

  std::vector<std::byte> chunk;
  for (const Tensor& tensor : tensors) {
    const uint64_t size_bytes = tensor.size_bytes();
    if (const auto* bytes = std::get_if<std::span<const std::byte>>(&tensor.source)) {
      PACKMULE_TRY_STATUS(sink.put(*bytes));
    } else {
      const auto block_bytes = static_cast<size_t>(quant::format_of(tensor.type).block_bytes);
      const uint64_t step = kChunkBytes / block_bytes * block_bytes;
      for (uint64_t offset = 0; offset < size_bytes; offset += step) {
        chunk.resize(std::min(step, size_bytes - offset));
        PACKMULE_TRY_STATUS(std::get<FillTensor>(tensor.source)(offset, chunk));
        PACKMULE_TRY_STATUS(sink.put(chunk));
      }
    }
    const std::vector<std::byte> padding(align_up(size_bytes, alignment_bytes) - size_bytes);
    PACKMULE_TRY_STATUS(sink.put(padding));
  }
  return {};
}

Status Writer::write(const std::string& path) const {
  PACKMULE_TRY_STATUS(check());
  FileSink sink(path);
  PACKMULE_TRY_STATUS(write_shard(sink, keys_, tensors_));
  PACKMULE_TRY_STATUS(sink.complete());
  return sink.publish();
}

Result<std::vector<std::byte>> Writer::bytes() const {
  PACKMULE_TRY_STATUS(check());
  MemorySink sink;
  PACKMULE_TRY_STATUS(write_shard(sink, keys_, tensors_));
  return std::move(sink.bytes);
}

Result<std::vector<std::string>> Writer::write_split(const std::string& prefix,
                                                     const SplitLimits& limits) const {
  PACKMULE_TRY_STATUS(check());
  std::vector<std::span<const Tensor>> parts(1);  // runs of tensors_
  size_t first = 0;
  uint64_t part_bytes = 0;
  for (size_t i = 0; i < tensors_.size(); ++i) {
    const uint64_t size_bytes = tensors_[i].size_bytes();
    const bool full = i > first && ((limits.max_tensors != 0 && i - first >= limits.max_tensors) ||
                                    (limits.max_bytes != 0 && part_bytes + size_bytes > limits.max_bytes));
    if (full) {
      first = i;
      part_bytes = 0;
      parts.emplace_back();
    }
    part_bytes += size_bytes;
    parts.back() = std::span(tensors_).subspan(first, i + 1 - first);
  }
  if (parts.size() > static_cast<size_t>(kMaxShards))
    return fail(ErrorKind::kInvalidArgument,
                "cannot write {}: it would take {} files, at most {} are possible; allow "
                "more in one file",
                prefix, parts.size(), kMaxShards);

  const int count = static_cast<int>(parts.size());
  std::vector<std::string> paths;
  std::vector<std::unique_ptr<FileSink>> sinks;
  for (int number = 0; number < count; ++number) {
    std::vector<Key> keys;
    for (const Key& key : keys_)
      if (number == 0 || key.name == kAlignmentKey) keys.push_back(key);
    keys.push_back({std::string(kSplitNo), static_cast<uint16_t>(number)});
    keys.push_back({std::string(kSplitCount), static_cast<uint16_t>(count)});
    keys.push_back({std::string(kSplitTensorsCount), static_cast<int32_t>(tensors_.size())});
    paths.push_back(split_path(prefix, number + 1, count));
    sinks.push_back(std::make_unique<FileSink>(paths.back()));
    PACKMULE_TRY_STATUS(write_shard(*sinks.back(), keys, parts[static_cast<size_t>(number)]));
    PACKMULE_TRY_STATUS(sinks.back()->complete());
  }
  for (const auto& sink : sinks) PACKMULE_TRY_STATUS(sink->publish());
  return paths;
}

}  // namespace packmule::gguf
