// packmule quantize: the same model with its matrices in another block format.
//
// The rules are the usual ones of llama-quantize in their simplest form. Tensors of one dimension, norms, the
// routers, the convolution and ssm_ba stay as they are: they are small and the model is sensitive to them.
// The output head (output.weight, or token_embd.weight where the two are one) gets Q6_K where the type has
// fewer bits than that: every token's choice goes through it. A row that does not divide into blocks of the
// type gets Q8_0, and F16 if it does not divide by 32 either.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/cpu.h"
#include "base/thread_pool.h"
#include "base/utf8.h"
#include "cli/verbs.h"
#include "gguf/file.h"
#include "gguf/writer.h"

namespace packmule::cli {
namespace {

using quant::Format;
using quant::Type;

/// Decoded and encoded at once by a thread; whole blocks of any format.
constexpr int64_t kItemElems = 64 * 1024;

struct QuantizeOptions {
  std::string in_path, out_path;
  Type type = Type::kF16;
  bool allow_requantize = false;
  int n_threads = 0;  // 0: all cores
};

/// general.file_type: llama.cpp's number for "mostly this type", of its mixtures the plainest.
constexpr auto kFileTypes = std::to_array<std::pair<Type, uint32_t>>(
    {{Type::kF32, 0},    {Type::kF16, 1},     {Type::kQ4_0, 2},     {Type::kQ4_1, 3},    {Type::kQ8_0, 7},
     {Type::kQ5_0, 8},   {Type::kQ5_1, 9},    {Type::kQ2_K, 10},    {Type::kQ3_K, 11},   {Type::kQ4_K, 14},
     {Type::kQ5_K, 16},  {Type::kQ6_K, 18},   {Type::kIQ2_XXS, 19}, {Type::kIQ2_XS, 20}, {Type::kIQ3_XXS, 23},
     {Type::kIQ1_S, 24}, {Type::kIQ4_NL, 25}, {Type::kIQ3_S, 26},   {Type::kIQ2_S, 28},  {Type::kIQ4_XS, 30},
     {Type::kIQ1_M, 31}, {Type::kBF16, 32},   {Type::kTQ1_0, 36},   {Type::kTQ2_0, 37},  {Type::kMXFP4, 38},
     {Type::kNVFP4, 39}});

double bits(const Format& format) {
  return 8.0 * format.block_bytes / format.block_elems;
}

bool is_plain(Type type) {
  return type == Type::kF32 || type == Type::kF16 || type == Type::kBF16;
}

bool stays(const gguf::TensorInfo& tensor) {
  if (tensor.n_dims < 2 || tensor.ne[1] == 1 || !tensor.name.ends_with(".weight")) return true;
  for (const std::string_view part : {"norm.", "ffn_gate_inp", "ssm_conv1d", "ssm_ba"})
    if (tensor.name.find(part) != std::string_view::npos) return true;
  return false;
}

const Format& new_format(const gguf::File& file, const gguf::TensorInfo& tensor, Type wanted) {
  if (stays(tensor)) return *tensor.format;
  const Format* format = &quant::format_of(wanted);
  const Format& head = quant::format_of(Type::kQ6_K);
  const bool tied = file.find_tensor("output.weight") == nullptr;
  if (tensor.name == (tied ? "token_embd.weight" : "output.weight") && bits(*format) < bits(head))
    format = &head;
  for (const Type next : {Type::kQ8_0, Type::kF16}) {
    if (tensor.ne[0] % format->block_elems == 0) break;
    format = &quant::format_of(next);
  }
  return *format;
}

/// The bytes [offset, offset + out.size()) of the tensor in its new format.
void convert(const gguf::TensorInfo& tensor, const Format& to, uint64_t offset, std::span<std::byte> out,
             ThreadPool& threads) {
  const Format& from = *tensor.format;
  const int64_t n_blocks = static_cast<int64_t>(out.size()) / to.block_bytes;
  const int64_t n_elems = n_blocks * to.block_elems;
  const int64_t begin = static_cast<int64_t>(offset) / to.block_bytes * to.block_elems;
  std::vector<std::vector<float>> buffers(static_cast<size_t>(threads.n_threads()));
  // A piece may begin inside a larger block of the old format.
  for (auto& buffer : buffers) buffer.resize(static_cast<size_t>(kItemElems + 2 * from.block_elems));
  threads.run((n_elems + kItemElems - 1) / kItemElems, [&](int64_t item, int worker) {
    const int64_t first = begin + item * kItemElems;
    const int64_t n = std::min(kItemElems, begin + n_elems - first);
    const int64_t first_block = first / from.block_elems;
    const int64_t end_block = (first + n + from.block_elems - 1) / from.block_elems;
    float* values = buffers[static_cast<size_t>(worker)].data();
    from.decode(tensor.data + first_block * from.block_bytes, values,
                (end_block - first_block) * from.block_elems);
    to.encode(values + (first - first_block * from.block_elems), nullptr,
              out.data() + item * kItemElems / to.block_elems * to.block_bytes, n);
  });
}

Status check_source(const gguf::File& file, const QuantizeOptions& options) {
  std::error_code ignored;
  for (int shard = 0; shard < file.n_shards(); ++shard)
    if (std::filesystem::equivalent(file.shard_path(shard), options.out_path, ignored))
      return fail(ErrorKind::kInvalidArgument, "{}: this is the file to read; name another one to write",
                  options.out_path);
  if (options.allow_requantize) return {};
  for (const gguf::TensorInfo& tensor : file.tensors())
    if (!stays(tensor) && !is_plain(tensor.format->type))
      return fail(ErrorKind::kInvalidArgument,
                  "{}: {}: expected F32, F16 or BF16, found {}: quantizing twice adds both errors; take the "
                  "original file, or say --allow-requantize",
                  file.path(), tensor.name, tensor.format->name);
  return {};
}

Status quantize(const QuantizeOptions& options) {
  PACKMULE_TRY(const gguf::File file, gguf::File::open(options.in_path));
  PACKMULE_TRY_STATUS(check_source(file, options));
  ThreadPool threads(options.n_threads > 0 ? options.n_threads : usable_cores());
  gguf::Writer writer;
  for (const gguf::KeyValue& entry : file.metadata())
    writer.set(std::string(entry.key), gguf::copy_value(entry.value));
  for (const char* key : {"split.no", "split.count", "split.tensors.count"}) writer.remove(key);
  for (const auto& [type, number] : kFileTypes)
    if (type == options.type) writer.set("general.file_type", number);
  writer.set("general.quantization_version", uint32_t{2});

  uint64_t size_bytes = 0;
  for (const gguf::TensorInfo& tensor : file.tensors()) {
    const Format& to = new_format(file, tensor, options.type);
    std::vector<int64_t> ne(tensor.ne.begin(), tensor.ne.begin() + tensor.n_dims);
    if (to.type == tensor.format->type) {
      writer.add_tensor(std::string(tensor.name), std::move(ne), to.type, {tensor.data, tensor.size_bytes});
      size_bytes += tensor.size_bytes;
      continue;
    }
    writer.add_tensor(std::string(tensor.name), std::move(ne), to.type,
                      [&tensor, &to, &threads](uint64_t offset, std::span<std::byte> out) -> Status {
                        convert(tensor, to, offset, out, threads);
                        return {};
                      });
    size_bytes += static_cast<uint64_t>(quant::row_bytes(to, tensor.n_elems()));
  }
  PACKMULE_TRY_STATUS(writer.write(options.out_path));
  fmt::print("{}: {} tensors, {:.1f} MB (before: {:.1f} MB)\n", printable(options.out_path, 4096),
             file.tensors().size(), static_cast<double>(size_bytes) / 1e6,
             static_cast<double>(file.size_bytes()) / 1e6);
  return {};
}

std::string type_names() {
  std::string names;
  for (const Format& format : quant::formats())
    if (format.encode != nullptr) names += fmt::format("{}{}", names.empty() ? "" : ", ", format.name);
  return names;
}

}  // namespace

void add_quantize(CLI::App& app, Action& chosen) {
  auto options = std::make_shared<QuantizeOptions>();
  CLI::App* verb = app.add_subcommand("quantize", "Write a model with its matrices in another block format");
  verb->add_option("IN", options->in_path, "GGUF file in F32, F16 or BF16; of a split model the first")
      ->required();
  verb->add_option("OUT", options->out_path, "GGUF file to write")->required();
  const auto parse = [options](const std::string& name) {
    const Format* format = quant::find_format(std::string_view(name));
    if (format == nullptr || format->encode == nullptr)
      throw CLI::ValidationError(
          "TYPE", fmt::format("expected one of {}, found '{}'", type_names(), printable(name, 40)));
    options->type = format->type;
  };
  verb->add_option_function<std::string>("TYPE", parse, "Block format: " + type_names())
      ->required()
      ->type_name("TYPE");
  verb->add_flag("--allow-requantize", options->allow_requantize, "Take a file that is quantized already");
  verb->add_option("-t,--threads", options->n_threads, "Threads (default: all cores)")
      ->check(CLI::Range(1, 1024));
  verb->callback([options, &chosen] { chosen = [options] { return quantize(*options); }; });
}

}  // namespace packmule::cli
