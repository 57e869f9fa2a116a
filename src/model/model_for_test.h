// Helpers of the model's tests: a loaded model with a cache, and ways to send tokens through it.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "model/model.h"

namespace packmule::model {

inline std::vector<Isa> all_isas() {
  return {kIsas.begin(), kIsas.end()};
}

/// Bytes (of a file in memory), file, threads, model and page pool, in the order they need each other.
struct LoadedModel {
  std::vector<std::byte> bytes;
  gguf::File file;
  std::unique_ptr<ThreadPool> threads;
  std::unique_ptr<Model> model;
  std::shared_ptr<cache::PagePool> pages;

  static Result<LoadedModel> load(const std::filesystem::path& path, const ModelOptions& options,
                                  int n_threads = 2, int64_t capacity_tokens = 1024) {
    PACKMULE_TRY(gguf::File file, gguf::File::open(path.string()));
    return load(std::move(file), options, n_threads, capacity_tokens);
  }

  /// A file in memory, which `name` stands for in errors.
  static Result<LoadedModel> load(std::vector<std::byte> bytes, const std::string& name,
                                  const ModelOptions& options) {
    PACKMULE_TRY(gguf::File file, gguf::File::parse(bytes, name));
    PACKMULE_TRY(LoadedModel loaded, load(std::move(file), options, 2, 1024));
    loaded.bytes = std::move(bytes);  // does not move the bytes themselves
    return loaded;
  }

  static Result<LoadedModel> load(gguf::File file, const ModelOptions& options, int n_threads,
                                  int64_t capacity_tokens) {
    LoadedModel loaded{{}, std::move(file), std::make_unique<ThreadPool>(n_threads), nullptr, nullptr};
    PACKMULE_TRY(loaded.model, Model::load(loaded.file, options, *loaded.threads));
    PACKMULE_TRY(loaded.pages, loaded.model->new_pool(capacity_tokens));
    return loaded;
  }

  [[nodiscard]] std::unique_ptr<cache::Sequence> sequence() const { return pages->new_sequence().value(); }

  /// Logits of all tokens, sent in pieces of at most `piece`.
  std::vector<float> run(cache::Sequence& sequence, std::span<const int32_t> tokens, int64_t piece,
                         Probe* probe = nullptr) const {
    std::vector<float> logits;
    while (!tokens.empty()) {
      const size_t n = std::min(tokens.size(), static_cast<size_t>(piece));
      const Slice slice{&sequence, tokens.first(n), WantLogits::kAll};
      const auto rows = model->forward({&slice, 1}, probe);
      if (!rows.has_value()) {
        ADD_FAILURE() << rows.error().message;
        return logits;
      }
      logits.insert(logits.end(), rows->begin(), rows->end());
      tokens = tokens.subspan(n);
    }
    return logits;
  }
};

/// The options of the reference: exact activations are kept in a float32 cache.
inline ModelOptions exact_options(Isa isa, int64_t ubatch_size) {
  ModelOptions options;
  options.isa = isa;
  options.ubatch_size = ubatch_size;
  options.k_type = quant::Type::kF32;
  options.v_type = quant::Type::kF32;
  return options;
}

}  // namespace packmule::model
