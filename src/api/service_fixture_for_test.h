// The endpoints with a fake model behind them, asked without a socket.
#pragma once

#include <fmt/format.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include "api/fakes_for_test.h"
#include "api/service.h"

namespace packmule::api {

inline constexpr std::string_view kHi = R"("messages":[{"role":"user","content":"hi"}])";

/// The body of a chat request with these further fields.
inline std::string chat_body(std::string_view more = "") {
  return fmt::format("{{{}{}{}}}", kHi, more.empty() ? "" : ",", more);
}

/// The service in front of the fake model.
struct Fixture {
  explicit Fixture(ServiceOptions options = {}) : service(std::move(options)) {
    auto owned = std::make_unique<FakeBackend>();
    backend = owned.get();
    service.set_backend(std::move(owned));
  }
  std::shared_ptr<FakeResponder> begin(std::string method, std::string target, std::string body = "",
                                       Headers headers = {}) {
    auto responder = std::make_shared<FakeResponder>();
    service.handle({std::move(method), std::move(target), std::move(headers), std::move(body)}, responder);
    return responder;
  }
  std::shared_ptr<FakeResponder> ask(std::string method, std::string target, std::string body = "",
                                     Headers headers = {}) {
    auto responder = begin(std::move(method), std::move(target), std::move(body), std::move(headers));
    if (!responder->wait()) throw std::runtime_error("no answer");
    return responder;
  }
  std::shared_ptr<FakeResponder> chat(std::string_view more = "") {
    return ask("POST", "/v1/chat/completions", chat_body(more));
  }
  FakeBackend* backend;
  Service service;
};

}  // namespace packmule::api
