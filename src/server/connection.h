// One connection: reads requests, hands them to the handler, sends the answers in order. Private to the
// server.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <memory>
#include <optional>
#include <string>
#include <unordered_set>

#include "api/http.h"
#include "server/client_stream.h"
#include "server/mailbox.h"
#include "server/server.h"

namespace packmule::server {

class Connection;

/// What the connections share. Touched on the I/O thread only.
struct Shared {
  ServerOptions options;
  std::optional<boost::asio::ssl::context> tls;  // empty: plain HTTP
  api::Handler* handler = nullptr;
  std::unordered_set<Connection*> connections;
  size_t body_bytes = 0;  // of requests being received
  bool stopping = false;
  std::function<void()> on_connection_end;
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(boost::asio::ip::tcp::socket socket, Shared& shared);
  ~Connection();

  /// Serves until the connection ends. The caller keeps the connection alive meanwhile.
  boost::asio::awaitable<void> run();

  void finish_current();  // no further request after the one that is running
  void cancel_current();  // and its work should end

 private:
  enum class Next { kAnotherRequest, kClose };
  struct Received;  // a request as it came, or what was wrong with it

  boost::asio::awaitable<Next> serve_one();
  boost::asio::awaitable<void> receive(Received& out);
  boost::asio::awaitable<Next> respond(api::HttpRequest request, bool keep_alive, unsigned http_version);
  boost::asio::awaitable<void> refuse(const Received& received);
  boost::asio::awaitable<bool> write_all(std::string_view bytes);
  boost::asio::awaitable<void> wait_for_signal();
  boost::asio::awaitable<void> end_watch();
  boost::asio::awaitable<void> linger();

  void watch();
  void signal();
  void arm(std::chrono::milliseconds timeout);
  void disarm();
  [[nodiscard]] std::string head_text(const api::HttpResponse& head, bool keep_alive, unsigned http_version,
                                      std::string_view length) const;

  ClientStream stream_;
  Shared& shared_;
  boost::beast::flat_buffer buffer_;
  boost::asio::steady_timer deadline_;
  boost::asio::steady_timer signal_timer_;  // never runs out: cancelled to wake the coroutine
  std::shared_ptr<Mailbox> mailbox_;        // of the request being answered
  bool timed_out_ = false;
  bool signalled_ = false;
  bool waiting_for_request_ = false;
  bool watch_wanted_ = false;
  bool watching_ = false;
  bool peer_gone_ = false;
  bool answered_ = false;  // the connection ends behind an answer, which the client must get to read
};

}  // namespace packmule::server
