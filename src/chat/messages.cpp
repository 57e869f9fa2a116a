#include "chat/messages.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace packmule::chat {
namespace {

constexpr size_t kMaxTemplateBytes = size_t{4} << 20;

Result<std::string> read_template(const std::string& path) {
  if (std::error_code ignored; std::filesystem::is_directory(path, ignored))
    return fail(ErrorKind::kIo, "--chat-template-file {}: is a folder, expected a Jinja template", path);
  std::ifstream file(path, std::ios::binary);
  if (!file)
    return fail(ErrorKind::kIo, "--chat-template-file {}: cannot open: {}", path, std::strerror(errno));
  std::string text(kMaxTemplateBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad()) return fail(ErrorKind::kIo, "--chat-template-file {}: cannot read it", path);
  text.resize(static_cast<size_t>(file.gcount()));
  if (text.empty())
    return fail(ErrorKind::kInvalidFile, "--chat-template-file {}: is empty, expected a Jinja template",
                path);
  if (text.size() > kMaxTemplateBytes)
    return fail(ErrorKind::kInvalidFile,
                "--chat-template-file {}: is larger than {} bytes: is it a template?", path,
                kMaxTemplateBytes);
  return text;
}

}  // namespace

const std::string_view kChatMlTemplate =
    "{%- for message in messages -%}\n"
    "{{ '<|im_start|>' ~ message.role ~ '\\n' ~ (message.content or '') ~ '<|im_end|>\\n' }}\n"
    "{%- endfor -%}\n"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif -%}\n";

Result<ChosenTemplate> choose_template(std::string_view in_model_file, const std::string& override_path) {
  if (!override_path.empty()) {
    PACKMULE_TRY(std::string source, read_template(override_path));
    return ChosenTemplate{.source = std::move(source), .is_fallback = false};
  }
  if (!in_model_file.empty())
    return ChosenTemplate{.source = std::string(in_model_file), .is_fallback = false};
  return ChosenTemplate{.source = std::string(kChatMlTemplate), .is_fallback = true};
}

}  // namespace packmule::chat
