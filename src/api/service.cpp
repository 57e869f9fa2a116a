#include "api/service.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "api/chat_completions.h"
#include "api/fields.h"
#include "api/json_text.h"
#include "api/models.h"
#include "api/tokens.h"

namespace packmule::api {
namespace {

enum class Endpoint { kHealth, kModels, kChat, kTokenize, kDetokenize, kApplyTemplate };

struct Route {
  std::string_view path;
  bool post;  // else GET and HEAD
  Endpoint endpoint;
};

/// The same paths as llama-server's, with and without the version.
constexpr std::array<Route, 9> kRoutes = {{{"/health", false, Endpoint::kHealth},
                                           {"/v1/health", false, Endpoint::kHealth},
                                           {"/v1/models", false, Endpoint::kModels},
                                           {"/models", false, Endpoint::kModels},
                                           {"/v1/chat/completions", true, Endpoint::kChat},
                                           {"/chat/completions", true, Endpoint::kChat},
                                           {"/tokenize", true, Endpoint::kTokenize},
                                           {"/detokenize", true, Endpoint::kDetokenize},
                                           {"/apply-template", true, Endpoint::kApplyTemplate}}};
constexpr std::string_view kModelPrefix = "/v1/models/";

const Route* find_route(std::string_view path) {
  const auto it =
      std::find_if(kRoutes.begin(), kRoutes.end(), [&](const Route& r) { return r.path == path; });
  if (it != kRoutes.end()) return &*it;
  static constexpr Route kOneModel = {kModelPrefix, false, Endpoint::kModels};
  return path.starts_with(kModelPrefix) ? &kOneModel : nullptr;
}

std::string_view allowed_methods(const Route& route) {
  return route.post ? "POST, OPTIONS" : "GET, HEAD, OPTIONS";
}

/// Printable part of what a client sent, for an error message.
std::string shown(std::string_view text) {
  std::string out(text.substr(0, 100));
  for (char& c : out)
    if (c < 0x20 || c > 0x7e) c = '?';
  return out;
}

ApiError not_found(std::string_view path) {
  return {.status = 404,
          .message =
              fmt::format("no such path: {}; there are /health, /v1/models, /v1/chat/completions, /tokenize, "
                          "/detokenize and /apply-template",
                          shown(path)),
          .code = "not_found"};
}

ApiError wrong_method(const HttpRequest& request, const Route& route) {
  return {.status = 405,
          .message = fmt::format("{} is not allowed for {}, use {}", shown(request.method),
                                 shown(request.path()), route.post ? "POST" : "GET"),
          .code = "method_not_allowed",
          .headers = {{"Allow", std::string(allowed_methods(route))}}};
}

ApiError loading() {
  return {.status = 503,
          .type = "unavailable_error",
          .message = "Loading model",
          .code = "loading",
          .headers = {{"Retry-After", "1"}}};
}

ApiError busy() {
  return {.status = 503,
          .type = "unavailable_error",
          .message = "too many requests are waiting, try again later",
          .code = "busy",
          .headers = {{"Retry-After", "5"}}};
}

ApiError unauthorized() {
  return {.status = 401,
          .type = "authentication_error",
          .message = "an API key is needed: send it as 'Authorization: Bearer KEY'",
          .code = "invalid_api_key",
          .headers = {{"WWW-Authenticate", "Bearer"}}};
}

/// Time depends on the length of `given` only, so that it tells nothing of the key.
bool equal_in_constant_time(std::string_view given, std::string_view key) {
  unsigned difference = given.size() == key.size() ? 0 : 1;
  for (size_t i = 0; i < given.size(); ++i)
    difference |= static_cast<unsigned char>(given[i]) ^ static_cast<unsigned char>(key[i % key.size()]);
  return difference == 0;
}

/// JSON may come under any name a careless client gives it (curl says it is a form), but not as something
/// else.
std::optional<ApiError> check_encoding(const HttpRequest& request) {
  const auto refuse = [](std::string message) {
    return ApiError{.status = 415, .message = std::move(message), .code = "unsupported_media_type"};
  };
  std::string type(request.header("content-type"));
  type.resize(std::min(type.find(';'), type.size()));
  std::transform(type.begin(), type.end(), type.begin(), [](unsigned char c) { return std::tolower(c); });
  for (const char* other : {"multipart/", "image/", "audio/", "video/"})
    if (type.starts_with(other))
      return refuse(fmt::format("'Content-Type': expected application/json, found {}", shown(type)));
  const std::string_view encoding = request.header("content-encoding");
  if (!encoding.empty() && encoding != "identity")
    return refuse(fmt::format("'Content-Encoding': expected identity, found {}", shown(encoding)));
  return std::nullopt;
}

HttpResponse answer(const ApiResult<Json>& result) {
  return result ? json_response(*result) : result.error().response();
}

}  // namespace

Service::Service(ServiceOptions options)
    : options_(std::move(options)), generating_(options_.max_waiting), preparing_(options_.max_preparing) {}

Service::~Service() = default;

void Service::set_backend(std::unique_ptr<Backend> backend) {
  owned_backend_ = std::move(backend);
  backend_.store(owned_backend_.get(), std::memory_order_release);
}

bool Service::authorized(const HttpRequest& request) const {
  if (options_.api_key.empty()) return true;
  constexpr std::string_view kBearer = "Bearer ";
  const std::string_view authorization = request.header("authorization");
  if (authorization.starts_with(kBearer))
    return equal_in_constant_time(authorization.substr(kBearer.size()), options_.api_key);
  return equal_in_constant_time(request.header("x-api-key"), options_.api_key);
}

void Service::handle(HttpRequest request, std::shared_ptr<Responder> responder) {
  const Route* route = find_route(request.path());
  if (request.method == "OPTIONS" && (route != nullptr || request.target == "*"))
    return responder->send(
        {.status = 204,
         .headers = {{"Allow",
                      std::string(route != nullptr ? allowed_methods(*route) : "GET, HEAD, POST, OPTIONS")}},
         .body = ""});
  // Before all else, so that a stranger learns nothing but that a server is here.
  if (!(route != nullptr && route->endpoint == Endpoint::kHealth) && !authorized(request))
    return responder->send(unauthorized().response());
  if (route == nullptr) return responder->send(not_found(request.path()).response());
  const bool reads = request.method == "GET" || request.method == "HEAD";
  if (route->post ? request.method != "POST" : !reads)
    return responder->send(wrong_method(request, *route).response());
  Backend* backend = backend_.load(std::memory_order_acquire);
  if (backend == nullptr) return responder->send(loading().response());
  if (route->post)
    if (const auto error = check_encoding(request)) return responder->send(error->response());

  switch (route->endpoint) {
    case Endpoint::kHealth:
      return responder->send(json_response({{"status", "ok"}}));
    case Endpoint::kModels: {
      if (!request.path().starts_with(kModelPrefix))
        return responder->send(json_response(model_list_json(backend->info())));
      const std::string_view name = request.path().substr(kModelPrefix.size());
      if (name == backend->info().name) return responder->send(json_response(model_json(backend->info())));
      return responder->send(
          ApiError{.status = 404,
                   .message = fmt::format("the model '{}' does not exist here, this server has '{}'",
                                          shown(name), backend->info().name),
                   .param = "model",
                   .code = "model_not_found"}
              .response());
    }
    case Endpoint::kTokenize:
      return prepare(
          [r = std::move(request)](Backend& b) {
            return answer(parse_body(r).and_then([&](const Json& body) { return tokenize(b, body); }));
          },
          responder);
    case Endpoint::kDetokenize:
      return prepare(
          [r = std::move(request)](Backend& b) {
            return answer(parse_body(r).and_then([&](const Json& body) { return detokenize(b, body); }));
          },
          responder);
    case Endpoint::kApplyTemplate:
      return prepare(
          [r = std::move(request)](Backend& b) {
            return answer(
                parse_body(r).and_then(parse_template_request).and_then([&](const ChatRequest& chat_request) {
                  return render_prompt(b, chat_request).map([](chat::Rendered prompt) {
                    return Json{{"prompt", std::move(prompt.text)}};
                  });
                }));
          },
          responder);
    case Endpoint::kChat:
      return chat(std::move(request), std::move(responder));
  }
}

void Service::prepare(std::function<HttpResponse(Backend&)> make_answer,
                      const std::shared_ptr<Responder>& responder) {
  const bool accepted =
      preparing_.submit([this, make_answer = std::move(make_answer),
                         responder](const std::stop_token&) { responder->send(make_answer(*backend_)); },
                        responder->stop_token());
  if (!accepted) responder->send(busy().response());
}

void Service::chat(HttpRequest request, std::shared_ptr<Responder> responder) {
  const auto generate = [this, responder](ChatJob job) {
    const bool accepted = generating_.submit(
        [this, responder, job = std::move(job)](const std::stop_token& stop) {
          run_chat(*backend_, job, *responder, stop, [this](const std::string& line) {
            if (options_.log) options_.log(line);
          });
        },
        responder->stop_token());
    if (!accepted) responder->send(busy().response());
  };
  const bool accepted = preparing_.submit(
      [this, generate, responder, request = std::move(request)](const std::stop_token&) {
        if (responder->stop_token().stop_requested()) return;
        auto job = prepare_chat(*backend_, request);
        if (job)
          generate(std::move(job).value());
        else
          responder->send(job.error().response());
      },
      responder->stop_token());
  if (!accepted) responder->send(busy().response());
}

}  // namespace packmule::api
