// What passes between the HTTP server and the endpoints: requests, answers and streams as plain values.
//
// Nothing here knows of sockets, and nothing in the server knows of models. The server reads a whole request,
// calls Handler::handle on its I/O thread and sends what is given to the Responder, from whatever thread.
#pragma once

#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace packmule::api {

using Headers = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method;  // "GET", as sent
  std::string target;  // path and query, as sent
  Headers headers;
  std::string body;

  /// Part of the target before '?'.
  [[nodiscard]] std::string_view path() const;
  /// First header of that name in any case, or "".
  [[nodiscard]] std::string_view header(std::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  Headers headers;  // without Content-Length, Connection and Date, which the server sets
  std::string body;
};

/// The answer to one request. Either `send` once, or `start`, any number of `write`, and `finish`. Dropping
/// it half way closes the connection, dropping it before anything was sent answers 500. Calls may come from
/// any thread, but only from one at a time; none blocks.
class Responder {
 public:
  virtual ~Responder() = default;

  virtual void send(HttpResponse response) = 0;
  /// Sends status and headers; the body follows in pieces. `head.body` is the first piece.
  virtual void start(HttpResponse head) = 0;
  /// False when nobody reads any more: the client has left, or reads so slowly that too much is waiting.
  virtual bool write(std::string_view bytes) = 0;
  virtual void finish() = 0;

  /// Requested when the client has left or the server stops: work for this request should end.
  [[nodiscard]] virtual std::stop_token stop_token() const = 0;
};

class Handler {
 public:
  virtual ~Handler() = default;
  /// Called on the I/O thread for each request; must not block. The responder may be kept and used later.
  virtual void handle(HttpRequest request, std::shared_ptr<Responder> responder) = 0;
};

}  // namespace packmule::api
