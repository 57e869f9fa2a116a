#include "gguf/file.h"

#include "base/file_map.h"
#include "base/utf8.h"
#include "gguf/parse.h"
#include "gguf/split.h"

namespace packmule::gguf {
namespace {

/// What the keys of one file say about its place among split files.
struct SplitKeys {
  uint64_t number = 0;     // from 0
  uint64_t count = 0;      // 0 or 1: not split
  uint64_t n_tensors = 0;  // of all shards together; 0 when not said
};

Result<SplitKeys> read_split_keys(const Metadata& metadata, std::string_view path) {
  SplitKeys keys;
  const Value* count = metadata.find(kSplitCount);
  if (count == nullptr) return keys;
  PACKMULE_TRY(keys.count, value_u64(count, path, kSplitCount));
  if (keys.count <= 1) return keys;
  if (keys.count > kMaxShards)
    return fail(ErrorKind::kInvalidFile, "{}: key '{}': expected at most {} files, found {}", path,
                kSplitCount, kMaxShards, keys.count);
  PACKMULE_TRY(keys.number, value_u64(metadata.find(kSplitNo), path, kSplitNo));
  if (keys.number >= keys.count)
    return fail(ErrorKind::kInvalidFile, "{}: key '{}': expected a number below '{}' = {}, found {}", path,
                kSplitNo, kSplitCount, keys.count, keys.number);
  if (const Value* n_tensors = metadata.find(kSplitTensorsCount)) {
    PACKMULE_TRY(keys.n_tensors, value_u64(n_tensors, path, kSplitTensorsCount));
  }
  return keys;
}

/// The name of the file that was opened as the first shard, or an error that says which to open instead.
Result<SplitName> first_shard_name(const std::string& path, const SplitKeys& keys) {
  const auto name = parse_split_name(path);
  const int count = static_cast<int>(keys.count);
  if (keys.number != 0)
    return fail(ErrorKind::kInvalidArgument, "{}: this is file {} of {} of a split model; open the first, {}",
                path, keys.number + 1, count,
                name && name->count == count ? split_path(name->prefix, 1, count)
                                             : fmt::format("which ends in {}", split_path("", 1, count)));
  if (!name || name->number != 1 || name->count != count)
    return fail(
        ErrorKind::kInvalidFile,
        "{}: this is the first of {} files of a split model, so its name must end in {} for the others "
        "to be found; rename it",
        path, count, split_path("", 1, count));
  return *name;
}

}  // namespace

struct File::Impl {
  std::string path;
  std::vector<FileMap> maps;  // empty when the bytes are the caller's
  std::vector<std::string> shard_paths;
  uint64_t size_bytes = 0;
  uint32_t version = 0;
  Metadata metadata;  // of the first shard
  std::vector<TensorInfo> tensors;
  NameIndex tensor_index;

  void add_shard(Shard shard, std::string shard_path, uint64_t shard_bytes) {
    const int number = static_cast<int>(shard_paths.size());
    if (number == 0) {
      path = shard_path;
      version = shard.version;
      metadata = std::move(shard.metadata);
    }
    for (TensorInfo& tensor : shard.tensors) {
      tensor.shard = number;
      tensors.push_back(tensor);
    }
    shard_paths.push_back(std::move(shard_path));
    size_bytes += shard_bytes;
  }

  /// Opens the shards after the first.
  Status add_other_shards(const SplitName& first, const SplitKeys& keys);
  /// Names must differ across shards too.
  Status index_tensors();
};

Status File::Impl::add_other_shards(const SplitName& first, const SplitKeys& keys) {
  for (uint64_t i = 1; i < keys.count; ++i) {
    const std::string shard_path = split_path(first.prefix, static_cast<int>(i) + 1, first.count);
    auto map = FileMap::open(shard_path);
    if (!map)
      return fail(map.error().kind, "{}: file {} of {} of this split model is missing: {}", path, i + 1,
                  keys.count, map.error().message);
    PACKMULE_TRY(Shard shard, parse_shard(map->bytes(), shard_path));
    PACKMULE_TRY(const SplitKeys found, read_split_keys(shard.metadata, shard_path));
    if (found.count != keys.count || found.number != i || found.n_tensors != keys.n_tensors)
      return fail(
          ErrorKind::kInvalidFile,
          "{}: expected file {} of {} ({} tensors in all), as its name and {} say, found keys of file {} of "
          "{} ({} tensors in all); the files do not belong together",
          shard_path, i + 1, keys.count, keys.n_tensors, path, found.number + 1, found.count,
          found.n_tensors);
    const uint64_t shard_bytes = map->bytes().size();
    maps.push_back(std::move(*map));
    add_shard(std::move(shard), shard_path, shard_bytes);
  }
  if (keys.n_tensors != 0 && keys.n_tensors != tensors.size())
    return fail(ErrorKind::kInvalidFile,
                "{}: key '{}': expected {} tensors in the {} files together, found {}", path,
                kSplitTensorsCount, keys.n_tensors, keys.count, tensors.size());
  return {};
}

Status File::Impl::index_tensors() {
  std::vector<std::string_view> names;
  names.reserve(tensors.size());
  for (const TensorInfo& tensor : tensors) names.push_back(tensor.name);
  tensor_index = NameIndex(names);
  if (const auto twice = tensor_index.find_duplicate())
    return fail(ErrorKind::kInvalidFile, "{}: tensor '{}': expected every name once, found it in {} too",
                shard_paths[static_cast<size_t>(tensors[twice->second].shard)],
                printable(tensors[twice->second].name, 80),
                shard_paths[static_cast<size_t>(tensors[twice->first].shard)]);
  return {};
}

Result<File> File::open(const std::string& path) {
  auto impl = std::make_unique<Impl>();
  PACKMULE_TRY(FileMap map, FileMap::open(path));
  PACKMULE_TRY(Shard shard, parse_shard(map.bytes(), path));
  PACKMULE_TRY(const SplitKeys keys, read_split_keys(shard.metadata, path));
  const uint64_t size_bytes = map.bytes().size();
  impl->maps.push_back(std::move(map));
  impl->add_shard(std::move(shard), path, size_bytes);
  if (keys.count > 1) {
    PACKMULE_TRY(const SplitName first, first_shard_name(path, keys));
    PACKMULE_TRY_STATUS(impl->add_other_shards(first, keys));
  }
  PACKMULE_TRY_STATUS(impl->index_tensors());
  return File(std::move(impl));
}

Result<File> File::parse(std::span<const std::byte> bytes, std::string_view name) {
  auto impl = std::make_unique<Impl>();
  PACKMULE_TRY(Shard shard, parse_shard(bytes, name));
  PACKMULE_TRY(const SplitKeys keys, read_split_keys(shard.metadata, name));
  if (keys.count > 1)
    return fail(ErrorKind::kInvalidArgument,
                "{}: this is file {} of {} of a split model; open it by its path", name, keys.number + 1,
                keys.count);
  impl->add_shard(std::move(shard), std::string(name), bytes.size());
  PACKMULE_TRY_STATUS(impl->index_tensors());
  return File(std::move(impl));
}

File::File(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
File::File(File&&) noexcept = default;
File& File::operator=(File&&) noexcept = default;
File::~File() = default;

const std::string& File::path() const {
  return impl_->path;
}
uint32_t File::version() const {
  return impl_->version;
}
uint64_t File::size_bytes() const {
  return impl_->size_bytes;
}
int File::n_shards() const {
  return static_cast<int>(impl_->shard_paths.size());
}
const std::string& File::shard_path(int shard) const {
  return impl_->shard_paths.at(static_cast<size_t>(shard));
}
std::span<const KeyValue> File::metadata() const {
  return impl_->metadata.entries;
}
std::span<const TensorInfo> File::tensors() const {
  return impl_->tensors;
}

const Value* File::find(std::string_view key) const {
  return impl_->metadata.find(key);
}
const TensorInfo* File::find_tensor(std::string_view name) const {
  const auto at = impl_->tensor_index.find(name);
  return at ? &impl_->tensors[*at] : nullptr;
}

Result<uint64_t> File::get_u64(std::string_view key) const {
  return value_u64(find(key), path(), key);
}
Result<double> File::get_f64(std::string_view key) const {
  return value_f64(find(key), path(), key);
}
Result<bool> File::get_bool(std::string_view key) const {
  return value_bool(find(key), path(), key);
}
Result<std::string_view> File::get_string(std::string_view key) const {
  return value_string(find(key), path(), key);
}
Result<std::vector<std::string_view>> File::get_strings(std::string_view key) const {
  return value_strings(find(key), path(), key);
}
Result<std::vector<int64_t>> File::get_integers(std::string_view key) const {
  return value_integers(find(key), path(), key);
}

void File::will_read(std::span<const std::byte> part) const {
  if (!impl_->maps.empty()) FileMap::will_read(part);
}
void File::was_read(std::span<const std::byte> part) const {
  if (!impl_->maps.empty()) FileMap::was_read(part);
}

}  // namespace packmule::gguf
