#include "chat/template_engine.h"

#include <algorithm>
#include <mutex>

#include "chat/worker_process.h"

namespace packmule::chat {
namespace {

constexpr size_t kMaxSourceBytes = size_t{4} << 20;

/// JSON text of a value; an error when a string in it is not UTF-8.
Result<std::string> to_text(const Json& value, std::string_view what) {
  try {
    return value.dump();
  } catch (const nlohmann::json::exception&) {
    return fail(ErrorKind::kInvalidArgument, "chat template: {}: a string is not valid UTF-8", what);
  }
}

/// The error a reply other than 'O' stands for.
tl::unexpected<Error> refused(WorkerProcess::Reply reply, const TemplateLimits& limits) {
  switch (reply.kind) {
    case 'X':
      return tl::unexpected<Error>(Error{ErrorKind::kInvalidArgument, std::move(reply.text)});
    case 'D':
      return fail(ErrorKind::kInvalidFile, "chat template{}", reply.text);
    case 'E':
      return fail(ErrorKind::kInvalidArgument, "chat template{}", reply.text);
    case 'M':
      return fail(ErrorKind::kOutOfMemory, "chat template: needs more than the {} MiB it is allowed",
                  limits.memory_bytes >> 20);
    case 'B':
      return fail(ErrorKind::kOutOfMemory,
                  "chat template: makes more than the {} bytes of text it is allowed", limits.output_bytes);
    default:
      return fail(ErrorKind::kInternal, "chat template: the worker answered with the unknown kind {}",
                  static_cast<int>(reply.kind));
  }
}

}  // namespace

std::tm local_time_now() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  ::localtime_r(&now, &local);
  return local;
}

struct TemplateEngine::Impl {
  std::string compile_request;
  TemplateLimits limits;
  Clock clock;
  std::mutex mutex;
  std::unique_ptr<WorkerProcess> worker;  // with the template compiled; null after it had to be ended

  /// Makes sure that there is a worker.
  Status prepare() {
    if (worker != nullptr && worker->is_alive()) return {};
    PACKMULE_TRY(worker, WorkerProcess::start(limits));
    auto compiled = call(compile_request, "compiling");
    if (compiled) return {};
    worker.reset();
    return tl::unexpected<Error>(std::move(compiled).error());
  }

  Result<std::string> call(std::string_view request, std::string_view doing) {
    auto reply = worker->call(request, doing);
    if (!reply) {
      worker.reset();
      return tl::unexpected<Error>(std::move(reply).error());
    }
    if (reply->kind == 'O') return std::move(reply->text);
    if (reply->kind == 'M') worker.reset();  // it ends by itself
    return refused(*std::move(reply), limits);
  }
};

TemplateEngine::TemplateEngine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
TemplateEngine::~TemplateEngine() = default;

Result<std::unique_ptr<TemplateEngine>> TemplateEngine::create(std::string_view template_source,
                                                               TemplateLimits limits, Clock clock) {
  if (template_source.size() > kMaxSourceBytes)
    return fail(ErrorKind::kInvalidFile, "chat template: {} bytes long, at most {} are accepted",
                template_source.size(), kMaxSourceBytes);
  const Json request = {{"call", "compile"}, {"source", template_source}};
  auto impl = std::make_unique<Impl>();
  PACKMULE_TRY(impl->compile_request, to_text(request, "its text"));
  impl->limits = limits;
  impl->clock = std::move(clock);
  PACKMULE_TRY_STATUS(impl->prepare());
  return std::unique_ptr<TemplateEngine>(new TemplateEngine(std::move(impl)));
}

Result<std::string> TemplateEngine::render(const Json& messages, const Json& tools, const Json& kwargs) {
  if (!messages.is_array())
    return fail(ErrorKind::kInvalidArgument, "chat template: messages must be an array, not {}",
                messages.type_name());
  if (!kwargs.is_object() && !kwargs.is_null())
    return fail(ErrorKind::kInvalidArgument,
                "chat template: the template's variables must be an object, not {}", kwargs.type_name());
  PACKMULE_TRY(const std::string messages_text, to_text(messages, "messages"));
  PACKMULE_TRY(const std::string tools_text, to_text(tools, "tools"));
  PACKMULE_TRY(const std::string kwargs_text,
               to_text(kwargs.is_null() ? Json::object() : kwargs, "variables"));
  const std::tm now = impl_->clock();
  // Put together as text: numbers and the order of keys reach Python as they came.
  const std::string request = fmt::format(
      R"({{"call":"render","messages":{},"tools":{},"kwargs":{},"now":[{},{},{},{},{},{}],"output_bytes":{}}})",
      messages_text, tools_text, kwargs_text, now.tm_year + 1900, now.tm_mon + 1, now.tm_mday, now.tm_hour,
      now.tm_min, std::min(now.tm_sec, 59), impl_->limits.output_bytes);

  const std::lock_guard lock(impl_->mutex);
  PACKMULE_TRY_STATUS(impl_->prepare());
  return impl_->call(request, "rendering");
}

}  // namespace packmule::chat
