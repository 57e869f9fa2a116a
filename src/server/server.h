// An HTTP/1.1 server on one I/O thread, with TLS 1.2 or newer if it is given a certificate. It knows nothing
// of models: requests go to an api::Handler as values, answers come back from whatever thread (see
// api/http.h).
//
// While an answer is being made, one read stays outstanding on the connection, so that a client that leaves
// is noticed at once, even when nothing is being written, and the work for it is cancelled. A client that
// closes only its sending half looks the same and is treated the same: its request is cancelled, but what is
// answered all the same is still delivered. Everything a client can make the server hold is bounded: header,
// body, the bodies of all clients together, connections, pipelined bytes, and the part of a stream it has not
// read.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "api/http.h"
#include "base/result.h"

namespace packmule::server {

/// One answered request, for a log. Never the body, never the query.
struct Access {
  std::string method;
  std::string path;
  int status = 0;  // 0: the connection ended without an answer
  uint64_t response_bytes = 0;
  double ms = 0;
};

struct ServerOptions {
  std::string host = "127.0.0.1";    // address or name
  uint16_t port = 8080;              // 0: any free one
  bool handle_signals = false;       // SIGINT and SIGTERM stop the server
  std::string tls_certificate_path;  // PEM, with the chain to a root that clients know; "": plain HTTP
  std::string tls_key_path;          // PEM, of the certificate

  size_t max_header_bytes = size_t{64} << 10;
  size_t max_body_bytes = size_t{64} << 20;
  size_t max_total_body_bytes = size_t{256} << 20;  // being received, over all connections
  size_t max_unread_bytes = size_t{4} << 20;        // of a stream its client does not read
  size_t max_connections = 1024;                    // further ones wait to be accepted

  std::chrono::milliseconds idle_timeout{75'000};         // between requests
  std::chrono::milliseconds header_timeout{10'000};       // from the first byte to the end of the header
  std::chrono::milliseconds body_stall_timeout{30'000};   // without a byte of the body
  std::chrono::milliseconds body_timeout{300'000};        // for the whole body
  std::chrono::milliseconds write_stall_timeout{30'000};  // without a byte being taken
  std::chrono::milliseconds linger_timeout{2'000};        // reading on after the last answer of a connection
  std::chrono::milliseconds stop_grace{3'000};            // running requests may finish, then are cancelled
  std::chrono::milliseconds stop_limit{5'000};            // cancelled requests may end, then are cut off

  std::function<void(const Access&)> log;  // called on the I/O thread; may be unset
};

class Server {
 public:
  /// Binds and listens; connections are taken once `run` is called. `handler` must outlive the server.
  static Result<std::unique_ptr<Server>> listen(ServerOptions options, api::Handler& handler);
  ~Server();

  [[nodiscard]] uint16_t port() const;  // the one in use
  /// Serves until stopped. The calling thread becomes the I/O thread.
  void run();
  /// From any thread: takes no more connections, lets running requests finish for `stop_grace`, then cancels
  /// them; `run` returns when all have ended. A second call (or signal) cancels at once.
  void stop();

 private:
  struct Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace packmule::server
