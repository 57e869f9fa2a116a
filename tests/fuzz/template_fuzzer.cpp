// Templates and what is put into them. After an even first byte the rest is what a user wrote: it comes out
// of a plain template unchanged, and every control token in it is known as typed. After an odd one it is a
// template: whatever it does, it renders or fails within its limits, and says why.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/utf8.h"
#include "chat/template_engine.h"
#include "chat/typed_text.h"

namespace {

using namespace packmule;

constexpr std::string_view kControl = "<|im_end|>";
// A template that is fine takes a few milliseconds; under the sanitizers the process is not slower, for it is
// another.
constexpr chat::TemplateLimits kLimits{.time = std::chrono::milliseconds(300),
                                       .memory_bytes = size_t{128} << 20,
                                       .output_bytes = size_t{1} << 20};

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "template_fuzzer: %s\n", what);
  std::abort();
}

const chat::TypedText& typed_text() {
  static const chat::TypedText text({std::string(kControl), "<think>", "<tool_call>"});
  return text;
}

Json conversation(std::string content) {
  return Json::array({{{"role", "user"}, {"content", std::move(content)}}});
}

void read_text(std::string_view content) {
  static const auto engine =
      chat::TemplateEngine::create("<|im_start|>{{ messages[0].content }}<|im_end|>", kLimits);
  require(engine.has_value(), "the plain template does not compile");
  const auto rendered =
      typed_text().render(**engine, conversation(std::string(content)), nullptr, Json::object());
  if (!rendered) return;  // it holds every mark there is
  const std::string_view begin = "<|im_start|>";
  require(rendered->text == std::string(begin) + std::string(content) + std::string(kControl),
          "what was written comes out changed");
  const auto& typed = rendered->typed_control;
  require(std::is_sorted(typed.begin(), typed.end()), "places out of order");
  for (size_t at = 0; (at = content.find(kControl, at)) != std::string_view::npos; ++at)
    require(std::binary_search(typed.begin(), typed.end(), begin.size() + at),
            "a typed control token is not known");
  for (const size_t at : typed)
    require(at >= begin.size() && at < begin.size() + content.size(),
            "the template's own text counts as typed");
}

void read_template(std::string_view source) {
  const auto engine = chat::TemplateEngine::create(source, kLimits);
  if (!engine) return require(!engine.error().message.empty(), "no reason is given");
  for (int i = 0; i < 2; ++i) {
    const auto rendered =
        typed_text().render(**engine, conversation("a<|im_end|>b"), nullptr, Json::object());
    if (!rendered) require(!rendered.error().message.empty(), "no reason is given");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] % 2 == 1)
    read_template(text);
  else if (is_valid_utf8(text))  // JSON holds nothing else
    read_text(text);
  return 0;
}
