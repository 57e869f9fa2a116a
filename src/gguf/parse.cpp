#include "gguf/parse.h"

#include <algorithm>
#include <array>
#include <limits>

#include "gguf/cursor.h"

namespace packmule::gguf {
namespace {

constexpr std::string_view kMagic = "GGUF";
constexpr uint32_t kMinVersion = 2;
constexpr uint32_t kMaxVersion = 3;
constexpr uint64_t kMaxSigned = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());

/// Bytes a value of this type takes at least; 0 for an id that is no type.
uint64_t min_size_bytes(uint32_t type_id) {
  switch (static_cast<ValueType>(type_id)) {
    case ValueType::kU8:
    case ValueType::kI8:
    case ValueType::kBool:
      return 1;
    case ValueType::kU16:
    case ValueType::kI16:
      return 2;
    case ValueType::kU32:
    case ValueType::kI32:
    case ValueType::kF32:
      return 4;
    case ValueType::kU64:
    case ValueType::kI64:
    case ValueType::kF64:
    case ValueType::kString:
      return 8;
    case ValueType::kArray:
      return 12;
  }
  return 0;
}

std::string names_of_formats() {
  std::string names;
  for (const quant::Format& format : quant::formats()) names += fmt::format(" {}", format.name);
  return names;
}

class Parser {
 public:
  Parser(std::span<const std::byte> bytes, std::string_view path)
      : bytes_(bytes), path_(path), in_(bytes, path) {}

  Result<Shard> parse() {
    PACKMULE_TRY_STATUS(parse_header());
    PACKMULE_TRY_STATUS(parse_metadata());
    PACKMULE_TRY_STATUS(parse_tensors());
    return std::move(shard_);
  }

 private:
  Status parse_header();
  Status parse_metadata();
  Result<std::string_view> parse_name(std::string_view what, uint64_t max_bytes);
  Result<Value> parse_value(uint32_t type_id);
  Result<Array> parse_array();
  template <class Stored, class Kept>
  Status parse_elements(uint64_t count, Array& array);
  Result<bool> parse_bool();

  Status parse_tensors();
  Status parse_tensor(uint64_t number);
  Result<uint64_t> parse_shape(TensorInfo& tensor);
  Status find_alignment();
  Status place_data();
  Status check_overlaps();
  [[nodiscard]] uint64_t offset_of(std::string_view inside) const {
    return static_cast<uint64_t>(inside.data() - reinterpret_cast<const char*>(bytes_.data()));
  }

  std::span<const std::byte> bytes_;
  std::string_view path_;
  Cursor in_;
  Shard shard_;
  uint64_t n_tensors_ = 0;
  uint64_t n_keys_ = 0;
  uint64_t n_array_elems_ = 0;
  uint64_t alignment_ = kDefaultAlignment;
  std::vector<uint64_t> offset_fields_;  // where each tensor's offset stands in the file, for errors
};

// ---- header ----

Status Parser::parse_header() {
  if (bytes_.empty()) return in_.error(0, "expected a GGUF file, found an empty file");
  const std::string_view start(reinterpret_cast<const char*>(bytes_.data()),
                               std::min<size_t>(bytes_.size(), 4));
  if (start != kMagic.substr(0, start.size())) {
    const bool pointer = start == "vers";  // "version https://git-lfs.github.com/spec/v1"
    return in_.error(0, "expected the magic 'GGUF', found '{}'; {}", printable(start),
                     pointer ? "if this is a Git LFS pointer, fetch the file itself with 'git lfs pull'"
                             : "this is not a GGUF file");
  }
  PACKMULE_TRY([[maybe_unused]] const auto magic, in_.read<uint32_t>("the magic"));
  PACKMULE_TRY(shard_.version, in_.read<uint32_t>("the version"));
  if (shard_.version < kMinVersion || shard_.version > kMaxVersion) {
    const bool big_endian = shard_.version != 0 && (shard_.version & 0xffff) == 0;
    if (big_endian)
      return in_.error_of(ErrorKind::kUnsupported, 4,
                          fmt::format("expected a little-endian file, found a big-endian one (version field "
                                      "{:#010x}); get the little-endian file of this model",
                                      shard_.version));
    return in_.error_of(
        ErrorKind::kUnsupported, 4,
        fmt::format("expected GGUF version {} or {}, found {}; {}", kMinVersion, kMaxVersion, shard_.version,
                    shard_.version < kMinVersion ? "convert the model again with a current converter"
                                                 : "it needs a newer packmule, or the file is damaged"));
  }
  const uint64_t at = in_.position();
  PACKMULE_TRY(n_tensors_, in_.read<uint64_t>("the number of tensors"));
  PACKMULE_TRY(n_keys_, in_.read<uint64_t>("the number of keys"));
  constexpr uint64_t kMinTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;
  constexpr uint64_t kMinKeyBytes = 8 + 1 + 4 + 1;
  if (n_tensors_ > kMaxTensors || n_tensors_ > in_.bytes_left() / kMinTensorBytes)
    return in_.error(at, "the number of tensors is {}, but the {} bytes that follow have room for at most {}",
                     n_tensors_, in_.bytes_left(), std::min(kMaxTensors, in_.bytes_left() / kMinTensorBytes));
  if (n_keys_ > kMaxKeys || n_keys_ > in_.bytes_left() / kMinKeyBytes)
    return in_.error(at + 8,
                     "the number of keys is {}, but the {} bytes that follow have room for at most {}",
                     n_keys_, in_.bytes_left(), std::min(kMaxKeys, in_.bytes_left() / kMinKeyBytes));
  return {};
}

Result<std::string_view> Parser::parse_name(std::string_view what, uint64_t max_bytes) {
  const uint64_t at = in_.position();
  PACKMULE_TRY(const auto name, in_.read_string(what));
  if (name.empty() || name.size() > max_bytes)
    return in_.error(at, "expected {} of 1 to {} bytes, found {} bytes", what, max_bytes, name.size());
  if (!is_valid_utf8(name))
    return in_.error(at, "expected {} in UTF-8, found '{}'", what, printable(name, 80));
  return name;
}

// ---- metadata ----

Status Parser::parse_metadata() {
  auto& entries = shard_.metadata.entries;
  std::vector<std::string_view> names;
  for (uint64_t i = 0; i < n_keys_; ++i) {
    in_.place = {.what = "key", .number = i + 1};
    PACKMULE_TRY(const auto key, parse_name("a key", kMaxKeyBytes));
    in_.place.name = key;
    PACKMULE_TRY(const auto type_id, in_.read<uint32_t>("the type of the value"));
    PACKMULE_TRY(Value value, parse_value(type_id));
    entries.push_back({key, std::move(value)});
    names.push_back(key);
  }
  shard_.metadata.index = NameIndex(names);
  if (const auto twice = shard_.metadata.index.find_duplicate()) {
    in_.place = {.what = "key", .name = names[twice->second]};
    return in_.error(offset_of(names[twice->second]), "expected every key once, found it again after byte {}",
                     offset_of(names[twice->first]));
  }
  return {};
}

Result<bool> Parser::parse_bool() {
  const uint64_t at = in_.position();
  PACKMULE_TRY(const auto byte, in_.read<uint8_t>("a bool"));
  if (byte > 1) return in_.error(at, "expected a bool (0 or 1), found {}", byte);
  return byte == 1;
}

template <class Stored, class Kept>
Status Parser::parse_elements(uint64_t count, Array& array) {
  std::vector<Kept> elements;
  elements.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    if constexpr (std::is_same_v<Stored, std::string_view>) {
      in_.place.element = i + 1;
      PACKMULE_TRY(const auto text, in_.read_string("a string"));
      elements.push_back(text);
    } else if constexpr (std::is_same_v<Stored, bool>) {
      in_.place.element = i + 1;
      PACKMULE_TRY(const bool value, parse_bool());
      elements.push_back(value);
    } else {
      PACKMULE_TRY(const auto value, in_.read<Stored>("an element"));
      elements.push_back(static_cast<Kept>(value));
    }
  }
  in_.place.element = 0;
  array.values = std::move(elements);
  return {};
}

Result<Array> Parser::parse_array() {
  const uint64_t at = in_.position();
  PACKMULE_TRY(const auto type_id, in_.read<uint32_t>("the type of the elements"));
  PACKMULE_TRY(const auto count, in_.read<uint64_t>("the number of elements"));
  Array array;
  array.element_type = static_cast<ValueType>(type_id);
  const uint64_t min_bytes = min_size_bytes(type_id);
  if (min_bytes == 0) return in_.error(at, "expected an element type from 0 to 12, found {}", type_id);
  if (array.element_type == ValueType::kArray)
    return in_.error(at, "expected an array of plain values, found an array of arrays");
  if (count > in_.bytes_left() / min_bytes)
    return in_.error(
        at, "the array has {} elements of type {}, but the {} bytes that follow have room for {}; {}", count,
        value_type_name(array.element_type), in_.bytes_left(), in_.bytes_left() / min_bytes,
        Cursor::kDamaged);
  if (count > kMaxArrayElems - n_array_elems_)
    return in_.error(at, "expected at most {} array elements in a file, found more ({} in this array)",
                     kMaxArrayElems, count);
  n_array_elems_ += count;
  Status status;
  switch (array.element_type) {
    case ValueType::kU8:
      status = parse_elements<uint8_t, uint64_t>(count, array);
      break;
    case ValueType::kU16:
      status = parse_elements<uint16_t, uint64_t>(count, array);
      break;
    case ValueType::kU32:
      status = parse_elements<uint32_t, uint64_t>(count, array);
      break;
    case ValueType::kU64:
      status = parse_elements<uint64_t, uint64_t>(count, array);
      break;
    case ValueType::kI8:
      status = parse_elements<int8_t, int64_t>(count, array);
      break;
    case ValueType::kI16:
      status = parse_elements<int16_t, int64_t>(count, array);
      break;
    case ValueType::kI32:
      status = parse_elements<int32_t, int64_t>(count, array);
      break;
    case ValueType::kI64:
      status = parse_elements<int64_t, int64_t>(count, array);
      break;
    case ValueType::kF32:
      status = parse_elements<float, double>(count, array);
      break;
    case ValueType::kF64:
      status = parse_elements<double, double>(count, array);
      break;
    case ValueType::kBool:
      status = parse_elements<bool, bool>(count, array);
      break;
    case ValueType::kString:
      status = parse_elements<std::string_view, std::string_view>(count, array);
      break;
    case ValueType::kArray:
      break;  // refused above
  }
  if (!status) return tl::unexpected<Error>(std::move(status).error());
  return array;
}

Result<Value> Parser::parse_value(uint32_t type_id) {
  constexpr std::string_view kWhat = "the value";
  Value value;
  value.type = static_cast<ValueType>(type_id);
  const auto unsigned_value = [&]<class T>(T) -> Status {
    PACKMULE_TRY(const T number, in_.read<T>(kWhat));
    value.value = uint64_t{number};
    return {};
  };
  const auto signed_value = [&]<class T>(T) -> Status {
    PACKMULE_TRY(const T number, in_.read<T>(kWhat));
    value.value = int64_t{number};
    return {};
  };
  const auto float_value = [&]<class T>(T) -> Status {
    PACKMULE_TRY(const T number, in_.read<T>(kWhat));
    value.value = double{number};
    return {};
  };
  Status status;
  switch (value.type) {
    case ValueType::kU8:
      status = unsigned_value(uint8_t{});
      break;
    case ValueType::kU16:
      status = unsigned_value(uint16_t{});
      break;
    case ValueType::kU32:
      status = unsigned_value(uint32_t{});
      break;
    case ValueType::kU64:
      status = unsigned_value(uint64_t{});
      break;
    case ValueType::kI8:
      status = signed_value(int8_t{});
      break;
    case ValueType::kI16:
      status = signed_value(int16_t{});
      break;
    case ValueType::kI32:
      status = signed_value(int32_t{});
      break;
    case ValueType::kI64:
      status = signed_value(int64_t{});
      break;
    case ValueType::kF32:
      status = float_value(float{});
      break;
    case ValueType::kF64:
      status = float_value(double{});
      break;
    case ValueType::kBool: {
      PACKMULE_TRY(value.value, parse_bool());
      break;
    }
    case ValueType::kString: {
      PACKMULE_TRY(value.value, in_.read_string(kWhat));
      break;
    }
    case ValueType::kArray: {
      PACKMULE_TRY(value.value, parse_array());
      break;
    }
    default:
      return in_.error(in_.position() - 4, "expected a value type from 0 to 12, found {}", type_id);
  }
  if (!status) return tl::unexpected<Error>(std::move(status).error());
  return value;
}

// ---- tensors ----

Status Parser::find_alignment() {
  const Value* value = shard_.metadata.find(kAlignmentKey);
  if (value == nullptr) return {};
  PACKMULE_TRY(alignment_, value_u64(value, path_, kAlignmentKey));
  if (!std::has_single_bit(alignment_) || alignment_ < kMinAlignment || alignment_ > kMaxAlignment)
    return fail(ErrorKind::kInvalidFile, "{}: key '{}': expected a power of two from {} to {}, found {}",
                path_, kAlignmentKey, kMinAlignment, kMaxAlignment, alignment_);
  return {};
}

Result<uint64_t> Parser::parse_shape(TensorInfo& tensor) {
  const uint64_t at = in_.position();
  PACKMULE_TRY(const auto n_dims, in_.read<uint32_t>("the number of dimensions"));
  if (n_dims < 1 || n_dims > tensor.ne.size())
    return in_.error(at, "expected 1 to {} dimensions, found {}", tensor.ne.size(), n_dims);
  tensor.n_dims = static_cast<int>(n_dims);
  int64_t n_elems = 1;
  for (uint32_t d = 0; d < n_dims; ++d) {
    const uint64_t dim_at = in_.position();
    PACKMULE_TRY(const auto ne, in_.read<uint64_t>("a dimension"));
    if (ne == 0 || ne > kMaxSigned)
      return in_.error(dim_at, "expected dimension {} to be from 1 to 2^63 - 1, found {}", d, ne);
    tensor.ne[d] = static_cast<int64_t>(ne);
    if (__builtin_mul_overflow(n_elems, tensor.ne[d], &n_elems))
      return in_.error(dim_at, "expected fewer than 2^63 weights, found more (dimension {} is {})", d, ne);
  }
  return static_cast<uint64_t>(n_elems);
}

Status Parser::parse_tensor(uint64_t number) {
  in_.place = {.what = "tensor", .number = number};
  TensorInfo tensor;
  PACKMULE_TRY(tensor.name, parse_name("a tensor name", kMaxTensorNameBytes));
  in_.place.name = tensor.name;
  PACKMULE_TRY(const uint64_t n_elems, parse_shape(tensor));

  const uint64_t type_at = in_.position();
  PACKMULE_TRY(const auto type_id, in_.read<uint32_t>("the type"));
  tensor.format = quant::find_format(type_id);
  if (tensor.format == nullptr)
    return in_.error_of(
        ErrorKind::kUnsupported, type_at,
        fmt::format("the type id {} is not known; packmule reads{}", type_id, names_of_formats()));
  const auto block_elems = static_cast<uint64_t>(tensor.format->block_elems);
  if (static_cast<uint64_t>(tensor.ne[0]) % block_elems != 0)
    return in_.error(type_at, "expected rows of a multiple of {} weights (the block of {}), found {}",
                     block_elems, tensor.format->name, tensor.ne[0]);
  if (__builtin_mul_overflow(n_elems / block_elems, static_cast<uint64_t>(tensor.format->block_bytes),
                             &tensor.size_bytes))
    return in_.error(type_at, "expected fewer than 2^64 bytes of data, found {} weights of type {}", n_elems,
                     tensor.format->name);

  const uint64_t offset_at = in_.position();
  PACKMULE_TRY(tensor.file_offset, in_.read<uint64_t>("the offset"));  // from the start of the data for now
  if (tensor.file_offset % alignment_ != 0)
    return in_.error(offset_at, "expected an offset that is a multiple of the alignment {}, found {}",
                     alignment_, tensor.file_offset);
  shard_.tensors.push_back(tensor);
  offset_fields_.push_back(offset_at);
  return {};
}

/// Turns offsets from the start of the data into positions in the file.
Status Parser::place_data() {
  const uint64_t data_start = (in_.position() + alignment_ - 1) / alignment_ * alignment_;
  const uint64_t data_bytes = data_start < bytes_.size() ? bytes_.size() - data_start : 0;
  for (size_t i = 0; i < shard_.tensors.size(); ++i) {
    TensorInfo& tensor = shard_.tensors[i];
    in_.place = {.what = "tensor", .name = tensor.name};
    if (tensor.size_bytes > data_bytes || tensor.file_offset > data_bytes - tensor.size_bytes)
      return in_.error(
          offset_fields_[i],
          "expected {} bytes of data at offset {}, found {} bytes from there to the end of the file; {}",
          tensor.size_bytes, tensor.file_offset,
          tensor.file_offset < data_bytes ? data_bytes - tensor.file_offset : 0, Cursor::kDamaged);
    tensor.file_offset += data_start;
    tensor.data = bytes_.data() + tensor.file_offset;
  }
  return {};
}

Status Parser::check_overlaps() {
  std::vector<size_t> order(shard_.tensors.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::pair(shard_.tensors[a].file_offset, a) < std::pair(shard_.tensors[b].file_offset, b);
  });
  for (size_t i = 1; i < order.size(); ++i) {
    const TensorInfo& before = shard_.tensors[order[i - 1]];
    const TensorInfo& after = shard_.tensors[order[i]];
    const uint64_t end = before.file_offset + before.size_bytes;
    if (after.file_offset >= end) continue;
    in_.place = {.what = "tensor", .name = after.name};
    return in_.error(
        offset_fields_[order[i]],
        "expected its data, bytes {} to {}, apart from that of the others, found an overlap with "
        "tensor '{}', bytes {} to {}",
        after.file_offset, after.file_offset + after.size_bytes, printable(before.name, 80),
        before.file_offset, end);
  }
  return {};
}

Status Parser::parse_tensors() {
  PACKMULE_TRY_STATUS(find_alignment());
  for (uint64_t i = 0; i < n_tensors_; ++i) PACKMULE_TRY_STATUS(parse_tensor(i + 1));
  std::vector<std::string_view> names;
  for (const TensorInfo& tensor : shard_.tensors) names.push_back(tensor.name);
  if (const auto twice = NameIndex(names).find_duplicate()) {
    in_.place = {.what = "tensor", .name = names[twice->second]};
    return in_.error(offset_of(names[twice->second]),
                     "expected every name once, found it again after byte {}",
                     offset_of(names[twice->first]));
  }
  PACKMULE_TRY_STATUS(place_data());
  return check_overlaps();
}

}  // namespace

NameIndex::NameIndex(std::span<const std::string_view> names) {
  sorted_.reserve(names.size());
  for (size_t i = 0; i < names.size(); ++i) sorted_.emplace_back(names[i], i);
  std::sort(sorted_.begin(), sorted_.end());
}

std::optional<size_t> NameIndex::find(std::string_view name) const {
  const auto at = std::lower_bound(sorted_.begin(), sorted_.end(), std::pair(name, size_t{0}));
  if (at == sorted_.end() || at->first != name) return std::nullopt;
  return at->second;
}

std::optional<std::pair<size_t, size_t>> NameIndex::find_duplicate() const {
  const auto at = std::adjacent_find(sorted_.begin(), sorted_.end(),
                                     [](const auto& a, const auto& b) { return a.first == b.first; });
  if (at == sorted_.end()) return std::nullopt;
  return std::pair(at->second, (at + 1)->second);
}

const Value* Metadata::find(std::string_view key) const {
  const auto at = index.find(key);
  return at ? &entries[*at].value : nullptr;
}

Result<Shard> parse_shard(std::span<const std::byte> bytes, std::string_view path) {
  return Parser(bytes, path).parse();
}

}  // namespace packmule::gguf
