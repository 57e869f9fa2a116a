// packmule serve: the HTTP server.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "api/engine_backend.h"
#include "api/service.h"
#include "base/utf8.h"
#include "chat/messages.h"
#include "chat/template_engine.h"
#include "cli/common_flags.h"
#include "cli/place_model.h"
#include "cli/server_log.h"
#include "cli/verbs.h"
#include "engine/engine.h"
#include "server/server.h"

namespace packmule::cli {
namespace {

struct ServeOptions {
  engine::EngineOptions engine;
  PlacementFlags placement;
  SamplingFlags sampling;
  std::string host = "127.0.0.1";
  uint16_t port = 8080;
  std::string api_key;
  std::string api_key_path;
  std::string cors_origin;
  std::string tls_certificate_path;
  std::string tls_key_path;
  std::string alias;
  std::string template_path;
  std::string log_format = "text";
  std::string slot_save_path;
  bool log_prompts = false;
  double request_timeout_s = 0;
  int stall_timeout_s = 0;  // 0: what the server has
};

Result<std::unique_ptr<api::Backend>> load(const ServeOptions& options, ServerLog& log) {
  const auto begin = std::chrono::steady_clock::now();
  engine::EngineOptions engine_options = options.engine;
  engine_options.warn = [&log](const std::string& line) { log.warn(line); };
  PACKMULE_TRY(const std::string placed, place_model(options.placement, engine_options, engine_options.warn));
  if (!placed.empty()) log.info(placed);
  PACKMULE_TRY(auto engine, engine::Engine::open(engine_options));
  PACKMULE_TRY(const auto chosen, chat::choose_template(engine->chat_template(), options.template_path));
  if (chosen.is_fallback)
    log.warn("the model file has no chat template: using plain ChatML; name one with --chat-template-file");
  PACKMULE_TRY(auto chat_template, chat::TemplateEngine::create(chosen.source));
  sampling::Params sampling = options.sampling.over(engine->default_sampling());
  PACKMULE_TRY_STATUS(sampling::validate(sampling, engine->model().hparams().n_vocab));
  auto backend = std::make_unique<api::EngineBackend>(std::move(engine), std::move(chat_template),
                                                      std::move(sampling), options.alias, chosen.source);
  log.info(fmt::format("model {} is ready after {:.1f} s, {} tokens of context",
                       printable(backend->info().name, 80),
                       std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(),
                       backend->info().n_ctx));
  return backend;
}

/// The keys that clients may use: those that were named, and the lines of the file, as llama-server has them.
Result<std::vector<std::string>> api_keys(const ServeOptions& options) {
  std::vector<std::string> keys;
  std::istringstream named(options.api_key);
  for (std::string key; std::getline(named, key, ',');)
    if (!key.empty()) keys.push_back(key);
  if (!options.api_key.empty() && keys.empty())
    return fail(ErrorKind::kInvalidArgument,
                "--api-key: expected a key, or several with commas in between, found none");
  if (options.api_key_path.empty()) return keys;
  std::ifstream file(options.api_key_path);
  if (!file) return fail(ErrorKind::kIo, "cannot read {} (--api-key-file)", options.api_key_path);
  bool any_line = false;
  for (std::string line; std::getline(file, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.empty() || line[0] == '#') continue;
    keys.push_back(line);
    any_line = true;
  }
  // A server that is meant to be shut must not stand open because a file is empty.
  if (!any_line)
    return fail(ErrorKind::kInvalidArgument, "{} (--api-key-file) holds no key, expected one a line",
                options.api_key_path);
  return keys;
}

Status serve(const ServeOptions& options) {
  ServerLog log(options.log_format == "json");
  PACKMULE_TRY(auto keys, api_keys(options));
  std::error_code no_folder;
  if (!options.slot_save_path.empty() && !std::filesystem::is_directory(options.slot_save_path, no_folder))
    return fail(ErrorKind::kInvalidArgument, "{} (--slot-save-path) is no folder; make it first",
                options.slot_save_path);
  std::function<void(const api::LoggedText&)> log_text;
  if (options.log_prompts) log_text = [&](const api::LoggedText& text) { log.text(text); };
  api::Service service({.api_keys = std::move(keys),
                        .cors_origin = options.cors_origin,
                        .n_parallel = options.engine.n_parallel,
                        .slot_save_path = options.slot_save_path,
                        .max_request_time = std::chrono::milliseconds(
                            static_cast<int64_t>(std::ceil(options.request_timeout_s * 1e3))),
                        .log = [&](const std::string& line) { log.info(line); },
                        .log_text = log_text});
  // The port is taken before the model is loaded: a port that is in use is noticed at once, and whoever asks
  // meanwhile is told to wait.
  server::ServerOptions server_options{.host = options.host,
                                       .port = options.port,
                                       .handle_signals = true,
                                       .tls_certificate_path = options.tls_certificate_path,
                                       .tls_key_path = options.tls_key_path,
                                       .log = [&](const server::Access& access) { log.access(access); }};
  if (const auto stall = std::chrono::seconds(options.stall_timeout_s); stall.count() > 0) {
    server_options.body_stall_timeout = server_options.write_stall_timeout = stall;
    server_options.body_timeout = std::max<std::chrono::milliseconds>(server_options.body_timeout, stall);
  }
  PACKMULE_TRY(const auto server, server::Server::listen(std::move(server_options), service));
  const bool is_ipv6 = options.host.find(':') != std::string::npos;
  fmt::print("listening on {}://{}{}{}:{}\n", options.tls_key_path.empty() ? "http" : "https",
             is_ipv6 ? "[" : "", options.host, is_ipv6 ? "]" : "", server->port());
  std::fflush(stdout);

  Status loaded;
  std::atomic<bool> is_loading = true;
  std::thread loader([&] {
    auto backend = load(options, log);
    if (backend)
      service.set_backend(std::move(backend).value());
    else
      loaded = tl::unexpected(std::move(backend).error());
    is_loading = false;
    if (!loaded) server->stop();
  });
  server->run();
  if (is_loading) {
    // Loading cannot be interrupted and has nothing to put in order: there is no reason to wait for it.
    std::fflush(nullptr);
    std::_Exit(EXIT_SUCCESS);
  }
  loader.join();
  log.info("stopped");
  return loaded;
}

}  // namespace

void add_serve(CLI::App& app, Action& chosen) {
  auto options = std::make_shared<ServeOptions>();
  CLI::App* verb = app.add_subcommand(
      "serve", "Serve the model over HTTP (the APIs of OpenAI, Anthropic and llama-server)");
  add_model_flags(*verb, options->engine, options->placement);
  add_context_flag(*verb, options->engine);
  add_sampling_flags(*verb, options->sampling);
  options->engine.n_parallel = engine::kDefaultParallel;
  add_parallel_flags(*verb, options->engine);
  add_disk_flags(*verb, options->engine);
  add_accepted_flags(*verb);
  verb->add_option("--host", options->host, "Address to listen on; 0.0.0.0: reachable from other machines")
      ->capture_default_str()
      ->group("Server");
  verb->add_option("--port", options->port, "Port to listen on; 0: any free one, which is printed")
      ->capture_default_str()
      ->group("Server");
  verb->add_option(
          "--api-key", options->api_key,
          "Clients must send this key, or one of several with commas in between; better given in the "
          "environment")
      ->envname("PACKMULE_API_KEY")
      ->group("Server");
  verb->add_option("--api-key-file", options->api_key_path,
                   "Further keys, one a line; lines that begin with # are none")
      ->group("Server");
  verb->add_option("--cors", options->cors_origin,
                   "Let the pages of this origin ask, as https://example.org; '*': those of any")
      ->group("Server");
  verb->add_option("--ssl-cert-file", options->tls_certificate_path, "Certificate to speak TLS with, PEM")
      ->group("Server");
  verb->add_option("--ssl-key-file", options->tls_key_path, "Its key, PEM")->group("Server");
  verb->add_option("-a,--alias", options->alias,
                   "Name of the model in answers (default: the one in its file)")
      ->group("Server");
  verb->add_option("--chat-template-file", options->template_path,
                   "Jinja template to use instead of the model's")
      ->group("Server");
  verb->add_option(
          "--slot-save-path", options->slot_save_path,
          "Folder for what /slots/ID?action=save and restore write and read; they hold prompts as tokens")
      ->type_name("DIR")
      ->group("Server");
  verb->add_option(
          "--request-timeout", options->request_timeout_s,
          "Most seconds from the arrival of a request to its last token, waiting included; then what is "
          "there is the answer, or 504 if there is nothing; 0: no limit")
      ->check(CLI::Range(0.0, 1e6))
      ->type_name("SECONDS")
      ->capture_default_str()
      ->group("Server");
  verb->add_option(
          "--timeout", options->stall_timeout_s,
          "Seconds that a client may pause while it sends a request or reads an answer (-to, default: 30); "
          "for a limit on answers see --request-timeout")
      ->check(CLI::Range(1, 1000000))
      ->type_name("SECONDS")
      ->group("Server");
  verb->add_flag("--log-prompts", options->log_prompts,
                 "Log what the model reads and writes too; else the log never holds text of conversations")
      ->group("Server");
  verb->add_option("--log-format", options->log_format, "Lines of the log on standard error: text or json")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str()
      ->group("Server");
  verb->callback([options, &chosen] { chosen = [options] { return serve(*options); }; });
}

}  // namespace packmule::cli
