// Which chat template is used for a model, in ChatML's form if need be.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace packmule::chat {

/// The template used when a model file brings none: plain ChatML, the form all Qwen models were trained on.
/// It knows no tools.
extern const std::string_view kChatMlTemplate;

struct ChosenTemplate {
  std::string source;
  bool is_fallback = false;  // kChatMlTemplate, because nobody named another: worth a warning
};

/// The template in `override_path` (--chat-template-file) if that is not "", else `in_model_file`, else
/// kChatMlTemplate. A file that cannot be read, is empty or larger than 4 MiB is an error.
[[nodiscard]] Result<ChosenTemplate> choose_template(std::string_view in_model_file,
                                                     const std::string& override_path);

}  // namespace packmule::chat
