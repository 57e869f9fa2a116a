// What an engine owns. Private to this folder.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "engine/engine.h"
#include "engine/generation.h"
#include "engine/scheduler.h"

namespace packmule::engine {

/// In the order in which the parts need each other.
struct Engine::Impl {
  EngineOptions options;
  gguf::File file;
  std::unique_ptr<text::Tokenizer> tokenizer;
  Vocabulary vocabulary;
  sampling::Params default_sampling;
  std::unique_ptr<ThreadPool> threads;
  std::unique_ptr<model::Model> model;
  std::unique_ptr<Scheduler> scheduler;

  explicit Impl(gguf::File opened) : file(std::move(opened)) {}

  [[nodiscard]] Status check(const Request& request) const;
};

}  // namespace packmule::engine
