// Chat templates: Jinja2 source + messages -> prompt text, exactly as the reference (Jinja2 in Python)
// renders it.
//
// The template comes with the model file and is untrusted: it runs in Jinja2's ImmutableSandboxedEnvironment
// inside a worker process with limits on time and memory, so that neither an endless loop nor one giant
// operation, nor a way out of the sandbox, reaches this process. See docs/architecture.md for why it is a
// process and not a linked interpreter.
#pragma once

#include <chrono>
#include <ctime>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/json.h"
#include "base/result.h"

namespace packmule::chat {

struct TemplateLimits {
  /// Processor time of one render or of compiling; a template cannot wait for anything, so on an idle machine
  /// that is the time on the clock. On a busy one it gets up to kWallTimeFactor times as long on the clock.
  std::chrono::milliseconds time{800};
  size_t memory_bytes = size_t{512} << 20;  // address space of the worker
  size_t output_bytes = size_t{64} << 20;
};

inline constexpr int kWallTimeFactor = 5;

/// The local time the template's strftime_now(format) formats.
using Clock = std::function<std::tm()>;
[[nodiscard]] std::tm local_time_now();

class TemplateEngine {
 public:
  /// Starts the worker and compiles the template. A damaged template is an error with the line and Jinja's
  /// reason. The interpreter is /usr/bin/python3, or the one the environment variable PACKMULE_PYTHON names.
  static Result<std::unique_ptr<TemplateEngine>> create(std::string_view template_source,
                                                        TemplateLimits limits = {},
                                                        Clock clock = local_time_now);
  ~TemplateEngine();

  /// Renders with `messages` (array), `tools` (array, or null: the variable is not passed at all) and further
  /// variables of the object `kwargs` (add_generation_prompt, enable_thinking, ...). A message given to the
  /// template's raise_exception comes back word for word as the error's message; all other errors begin with
  /// "chat template". Thread-safe; one render at a time. After an error the engine goes on working: a worker
  /// that had to be ended is started again by the next render.
  [[nodiscard]] Result<std::string> render(const Json& messages, const Json& tools, const Json& kwargs);

 private:
  struct Impl;
  explicit TemplateEngine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace packmule::chat
