// packmule logits: the model's raw answer for every position of a token list, to compare engines with.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/file_map.h"
#include "base/json.h"
#include "cli/cache_flags.h"
#include "cli/common_flags.h"
#include "cli/place_model.h"
#include "cli/verbs.h"
#include "model/model.h"

namespace packmule::cli {
namespace {

struct LogitsOptions {
  std::string model_path;
  std::string tokens_path;
  std::string output_path;
  int n_threads = 0;  // 0: all cores
  int64_t ubatch_size = 512;
  quant::Type k_type = quant::Type::kF16;
  quant::Type v_type = quant::Type::kF16;
  PlacementFlags placement;
};

/// An array of token ids, or an object that has one under "tokens".
Result<std::vector<int32_t>> read_tokens(const std::string& path) {
  PACKMULE_TRY(const FileMap file, FileMap::open(path));
  const std::string_view text(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  PACKMULE_TRY(const Json json, parse_json(text, path));
  const Json* list = &json;
  if (json.is_object() && json.contains("tokens")) list = &json["tokens"];
  if (!list->is_array() || list->empty())
    return fail(ErrorKind::kInvalidArgument,
                "{}: expected an array of token ids, or an object with one under \"tokens\", found {}", path,
                list->is_array() ? "an empty array" : list->type_name());
  std::vector<int32_t> tokens;
  for (const Json& id : *list) {
    const bool fits = id.is_number_unsigned() && id.get<uint64_t>() <= INT32_MAX;
    if (!fits)
      return fail(ErrorKind::kInvalidArgument, "{}: entry {}: expected a token id, found {}", path,
                  tokens.size(), id.is_number() ? "a number that is none" : id.type_name());
    tokens.push_back(id.get<int32_t>());
  }
  return tokens;
}

/// A file that is written from start to end; what an error leaves half written is removed.
class OutputFile {
 public:
  static Result<OutputFile> create(const std::string& path) {
    OutputFile file(path, std::fopen(path.c_str(), "wb"));
    if (file.file_ == nullptr) return file.failure("create");
    return file;
  }
  OutputFile(OutputFile&& other) noexcept
      : path_(std::move(other.path_)), file_(std::exchange(other.file_, nullptr)) {}
  ~OutputFile() {
    if (file_ == nullptr) return;
    std::fclose(file_);
    std::remove(path_.c_str());
  }

  Status write(std::span<const float> values) {
    if (std::fwrite(values.data(), sizeof(float), values.size(), file_) != values.size())
      return failure("write to");
    return {};
  }

  Status close() {
    if (std::fflush(file_) != 0) return failure("write to");
    std::FILE* file = std::exchange(file_, nullptr);
    if (std::fclose(file) != 0) return failure("write to");
    return {};
  }

 private:
  OutputFile(std::string path, std::FILE* file) : path_(std::move(path)), file_(file) {}
  [[nodiscard]] tl::unexpected<Error> failure(const char* what) const {
    return fail(ErrorKind::kIo, "cannot {} {}: {}", what, path_, std::strerror(errno));
  }

  std::string path_;
  std::FILE* file_;
};

Status logits(const LogitsOptions& options) {
  PACKMULE_TRY(const std::vector<int32_t> tokens, read_tokens(options.tokens_path));
  PACKMULE_TRY(const gguf::File file, gguf::File::open(options.model_path));
  engine::EngineOptions placed{.model_path = options.model_path,
                               .n_threads = options.n_threads,
                               .ctx_size = static_cast<int64_t>(tokens.size()),
                               .ubatch_size = options.ubatch_size,
                               .k_type = options.k_type,
                               .v_type = options.v_type,
                               .load_mode = model::LoadMode::kMmap};
  PACKMULE_TRY(const std::string line, place_model(options.placement, placed));
  if (!line.empty()) fmt::print(stderr, "{}\n", line);
  ThreadPool threads(options.n_threads > 0 ? options.n_threads : usable_cores());
  model::ModelOptions model_options;
  PACKMULE_TRY(model_options.isa, choose_isa());
  model_options.ubatch_size = options.ubatch_size;
  model_options.k_type = options.k_type;
  model_options.v_type = options.v_type;
  model_options.placement = placed.placement;
  PACKMULE_TRY(const auto model, model::Model::load(file, model_options, threads));
  const auto n_tokens = static_cast<int64_t>(tokens.size());
  PACKMULE_TRY(const auto pages, model->new_pool(n_tokens));
  PACKMULE_TRY(const auto sequence, pages->new_sequence());
  PACKMULE_TRY(OutputFile output, OutputFile::create(options.output_path));

  const bool show_progress = isatty(STDERR_FILENO) == 1;
  for (int64_t done = 0; done < n_tokens;) {
    const int64_t n = std::min(options.ubatch_size, n_tokens - done);
    const model::Slice slice{sequence.get(),
                             std::span(tokens).subspan(static_cast<size_t>(done), static_cast<size_t>(n)),
                             model::WantLogits::kAll};
    PACKMULE_TRY(const std::span<const float> rows, model->forward({&slice, 1}));
    PACKMULE_TRY_STATUS(output.write(rows));
    done += n;
    if (show_progress)
      fmt::print(stderr, "\r{} of {} tokens{}", done, n_tokens, done == n_tokens ? "\n" : "");
  }
  return output.close();
}

}  // namespace

void add_logits(CLI::App& app, Action& chosen) {
  auto options = std::make_shared<LogitsOptions>();
  CLI::App* verb = app.add_subcommand("logits", "Write the logits of every position of a token list");
  verb->add_option("-m,--model", options->model_path, "GGUF file; of a split model the first")->required();
  verb->add_option("--tokens-file", options->tokens_path,
                   "JSON: an array of ids, or an object with \"tokens\"")
      ->required();
  verb->add_option("--output", options->output_path,
                   "File to write: float32, little endian, [tokens][vocabulary]")
      ->required();
  verb->add_option("-t,--threads", options->n_threads, "Threads (default: all cores)")
      ->check(CLI::Range(1, 1024));
  verb->add_option("--ubatch-size", options->ubatch_size, "Tokens processed at once (-ub)")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  add_cache_flags(*verb, options->k_type, options->v_type);
  add_placement_flags(*verb, options->placement);
  verb->callback([options, &chosen] { chosen = [options] { return logits(*options); }; });
}

}  // namespace packmule::cli
