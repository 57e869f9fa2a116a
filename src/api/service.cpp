#include "api/service.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <chrono>

#include "api/anthropic_messages.h"
#include "api/chat_completions.h"
#include "api/completions.h"
#include "api/fields.h"
#include "api/json_text.h"
#include "api/models.h"
#include "api/responses.h"
#include "api/slot_actions.h"
#include "api/status.h"
#include "api/tokens.h"

namespace packmule::api {
namespace {

/// One of the kinds of work, for one path.
struct Route {
  std::string_view path;
  Lookup lookup = Lookup::kNone;                                                   // GET and HEAD; else POST
  ApiResult<Json> (*compute)(Backend& backend, const Json& body) = nullptr;        // one thing at a time
  ApiResult<AnswerJob> (*generate)(Backend& backend, const Json& body) = nullptr;  // prepares it
  bool slots = false;                                                              // save, restore, erase

  [[nodiscard]] bool post() const { return lookup == Lookup::kNone; }
};

ApiResult<Json> apply_template(Backend& backend, const Json& body) {
  API_TRY(const ChatRequest request, parse_template_request(body));
  API_TRY(chat::Rendered prompt, render_prompt(backend, request));
  return Json{{"prompt", std::move(prompt.text)}};
}

constexpr std::string_view kModelPrefix = "/v1/models/";
/// Actions on slots that wait for their turn.
constexpr size_t kMaxSlotActions = 16;

/// The same paths as llama-server's, with and without the version.
constexpr Route kRoutes[] = {
    {.path = "/health", .lookup = Lookup::kHealth},
    {.path = "/v1/health", .lookup = Lookup::kHealth},
    {.path = "/v1/models", .lookup = Lookup::kModels},
    {.path = "/models", .lookup = Lookup::kModels},
    {.path = "/props", .lookup = Lookup::kProps},
    {.path = "/slots", .lookup = Lookup::kSlots},
    {.path = "/metrics", .lookup = Lookup::kMetrics},
    {.path = "/v1/chat/completions", .generate = prepare_chat},
    {.path = "/chat/completions", .generate = prepare_chat},
    {.path = "/v1/completions", .generate = prepare_completion},
    {.path = "/completion", .generate = prepare_llama_completion},
    {.path = "/completions", .generate = prepare_llama_completion},
    {.path = "/v1/responses", .generate = prepare_response},
    {.path = "/v1/chat/completions/input_tokens", .compute = count_chat_tokens},
    {.path = "/v1/responses/input_tokens", .compute = count_response_tokens},
    {.path = "/v1/messages", .generate = prepare_messages},
    {.path = "/v1/messages/count_tokens", .compute = count_message_tokens},
    {.path = "/tokenize", .compute = tokenize},
    {.path = "/detokenize", .compute = detokenize},
    {.path = "/apply-template", .compute = apply_template},
};

const Route* find_route(std::string_view path) {
  const auto it =
      std::find_if(std::begin(kRoutes), std::end(kRoutes), [&](const Route& r) { return r.path == path; });
  if (it != std::end(kRoutes)) return &*it;
  static constexpr Route kOneModel = {.path = kModelPrefix, .lookup = Lookup::kOneModel};
  static constexpr Route kOneSlot = {.path = kSlotPrefix, .slots = true};
  if (path.starts_with(kSlotPrefix)) return &kOneSlot;
  return path.starts_with(kModelPrefix) ? &kOneModel : nullptr;
}

std::string_view allowed_methods(const Route& route) {
  return route.post() ? "POST, OPTIONS" : "GET, HEAD, OPTIONS";
}

/// Printable part of what a client sent, for an error message.
std::string shown(std::string_view text) {
  std::string out(text.substr(0, 100));
  for (char& c : out)
    if (c < 0x20 || c > 0x7e) c = '?';
  return out;
}

ApiError not_found(std::string_view path) {
  std::string there;
  for (const Route& route : kRoutes) there += fmt::format("{}{}", there.empty() ? "" : ", ", route.path);
  return {.status = 404,
          .message = fmt::format("no such path: {}; there are {}", shown(path), there),
          .code = "not_found"};
}

ApiError wrong_method(const HttpRequest& request, const Route& route) {
  return {.status = 405,
          .message = fmt::format("{} is not allowed for {}, use {}", shown(request.method),
                                 shown(request.path()), route.post() ? "POST" : "GET"),
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
          .message = "an API key is needed: send it as 'Authorization: Bearer KEY' or 'x-api-key: KEY'",
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

/// Tells browsers that pages of an origin may read the answer.
class CorsResponder : public Responder {
 public:
  CorsResponder(std::string origin, std::shared_ptr<Responder> next)
      : origin_(std::move(origin)), next_(std::move(next)) {}

  void send(HttpResponse response) override { next_->send(opened(std::move(response))); }
  void start(HttpResponse head) override { next_->start(opened(std::move(head))); }
  bool write(std::string_view bytes) override { return next_->write(bytes); }
  void finish() override { next_->finish(); }
  [[nodiscard]] std::stop_token stop_token() const override { return next_->stop_token(); }

 private:
  [[nodiscard]] HttpResponse opened(HttpResponse response) const {
    response.headers.emplace_back("Access-Control-Allow-Origin", origin_);
    return response;
  }

  const std::string origin_;
  const std::shared_ptr<Responder> next_;
};

}  // namespace

Service::Service(ServiceOptions options)
    : options_(std::move(options)),
      timer_(options_.max_request_time.count() <= 0 ? nullptr
             : options_.timer != nullptr            ? options_.timer
                                                    : std::make_shared<ThreadTimer>()),
      generating_(options_.max_waiting, options_.n_parallel),
      slot_files_(kMaxSlotActions),
      preparing_(options_.max_preparing) {}

Service::~Service() = default;

void Service::set_backend(std::unique_ptr<Backend> backend) {
  owned_backend_ = std::move(backend);
  backend_.store(owned_backend_.get(), std::memory_order_release);
}

bool Service::authorized(const HttpRequest& request) const {
  if (options_.api_keys.empty()) return true;
  constexpr std::string_view kBearer = "Bearer ";
  const std::string_view authorization = request.header("authorization");
  const std::string_view given =
      authorization.starts_with(kBearer) ? authorization.substr(kBearer.size()) : request.header("x-api-key");
  bool known = false;  // every key is looked at, whichever fits
  for (const std::string& key : options_.api_keys) known |= equal_in_constant_time(given, key);
  return known;
}

HttpResponse Service::look_up(const Backend& backend, const HttpRequest& request, Lookup what) const {
  switch (what) {
    case Lookup::kHealth:
      return json_response({{"status", "ok"}});
    case Lookup::kModels:
      return json_response(model_list_json(backend.info()));
    case Lookup::kOneModel: {
      const std::string_view name = request.path().substr(kModelPrefix.size());
      if (name == backend.info().name) return json_response(model_json(backend.info()));
      return ApiError{.status = 404,
                      .message = fmt::format("the model '{}' does not exist here, this server has '{}'",
                                             shown(name), backend.info().name),
                      .param = "model",
                      .code = "model_not_found"}
          .response();
    }
    case Lookup::kProps:
      return json_response(props_json(backend));
    case Lookup::kSlots:
      return json_response(slots_json(backend));
    case Lookup::kMetrics:
      return {.headers = {{"Content-Type", "text/plain; version=0.0.4; charset=utf-8"}},
              .body = metrics_text(backend, first_token_, static_cast<int64_t>(generating_.n_waiting()),
                                   n_timed_out_)};
    case Lookup::kNone:
      break;
  }
  return {.status = 500};
}

void Service::handle(HttpRequest request, std::shared_ptr<Responder> responder) {
  if (options_.cors_origin.empty()) return dispatch(std::move(request), std::move(responder));
  auto open = std::make_shared<CorsResponder>(options_.cors_origin, std::move(responder));
  if (request.method == "OPTIONS" && !request.header("access-control-request-method").empty())
    return open->send({.status = 204,
                       .headers = {{"Access-Control-Allow-Methods", "GET, HEAD, POST, OPTIONS"},
                                   // "*" does not stand for Authorization.
                                   {"Access-Control-Allow-Headers", "*, Authorization"},
                                   {"Access-Control-Max-Age", "600"}},
                       .body = ""});
  dispatch(std::move(request), std::move(open));
}

void Service::dispatch(HttpRequest request, std::shared_ptr<Responder> responder) {
  const Route* route = find_route(request.path());
  if (request.method == "OPTIONS" && (route != nullptr || request.target == "*"))
    return responder->send(
        {.status = 204,
         .headers = {{"Allow",
                      std::string(route != nullptr ? allowed_methods(*route) : "GET, HEAD, POST, OPTIONS")}},
         .body = ""});
  const ErrorForm form = error_form_of(request.path());
  const auto refuse = [&](const ApiError& error) { responder->send(error.response(form)); };
  // Before all else, so that a stranger learns nothing but that a server is here.
  if (!(route != nullptr && route->lookup == Lookup::kHealth) && !authorized(request))
    return refuse(unauthorized());
  if (route == nullptr) return refuse(not_found(request.path()));
  const bool reads = request.method == "GET" || request.method == "HEAD";
  if (route->post() ? request.method != "POST" : !reads) return refuse(wrong_method(request, *route));
  Backend* backend = backend_.load(std::memory_order_acquire);
  if (backend == nullptr) return refuse(loading());
  if (!route->post()) return responder->send(look_up(*backend, request, route->lookup));
  if (const auto error = check_encoding(request)) return refuse(*error);
  if (route->slots) return act_on_slot(std::move(request), responder);

  const auto limited = std::make_shared<LimitedResponder>(std::move(responder), form);
  if (timer_ != nullptr)
    limited->keep(timer_->after(options_.max_request_time, [this, weak = std::weak_ptr(limited)] {
      if (const auto self = weak.lock(); self != nullptr && self->ring()) ++n_timed_out_;
    }));
  const bool accepted = preparing_.submit(
      [this, route, form, responder = limited, request = std::move(request),
       arrived = std::chrono::steady_clock::now()](const std::stop_token&) {
        if (responder->stop_token().stop_requested()) return;
        const auto fail = [&](const ApiError& error) { responder->send(error.response(form)); };
        const auto body = parse_body(request);
        if (!body) return fail(body.error());
        if (route->compute != nullptr) {
          const auto result = route->compute(*backend_, *body);
          return result ? responder->send(json_response(*result)) : fail(result.error());
        }
        auto job = route->generate(*backend_, *body);
        if (!job) return fail(job.error());
        job->error_form = form;
        job->arrived = arrived;
        for (engine::Request& generation : job->generations) generation.time_up = responder->time_up();
        if (!generate(std::make_shared<AnswerJob>(std::move(job).value()), responder)) fail(busy());
      },
      limited->stop_token());
  if (!accepted) limited->send(busy().response(form));
}

void Service::act_on_slot(HttpRequest request, const std::shared_ptr<Responder>& responder) {
  const bool accepted = slot_files_.submit(
      [this, responder, request = std::move(request)](const std::stop_token& server_stops) {
        const auto action = parse_slot_action(request, options_.slot_save_path);
        if (!action) return responder->send(action.error().response());
        std::stop_source stop;
        const auto request_stop = [&stop] { stop.request_stop(); };
        const std::stop_callback on_server_stop(server_stops, request_stop);
        const std::stop_callback on_client_gone(responder->stop_token(), request_stop);
        const auto done = act_on(*backend_, *action, stop.get_token());
        if (!done && options_.log)
          options_.log(fmt::format("slot {}: {}", action->slot, done.error().message));
        responder->send(done ? json_response(*done) : done.error().response());
      },
      responder->stop_token());
  if (!accepted) responder->send(busy().response());
}

bool Service::generate(std::shared_ptr<AnswerJob> job, const std::shared_ptr<LimitedResponder>& responder) {
  return generating_.submit(
      [this, responder, job = std::move(job)](const std::stop_token& stop) {
        if (!responder->begin()) return;
        run_job(*job, *responder, stop,
                {.backend = *backend_,
                 .log = options_.log,
                 .log_text = options_.log_text,
                 .first_token = &first_token_,
                 .n_timed_out = &n_timed_out_});
      },
      responder->stop_token());
}

}  // namespace packmule::api
