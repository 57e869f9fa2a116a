// A client's connection, with TLS or without: what reads and writes it need not know which. Private to the
// server.
#pragma once

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <optional>
#include <utility>

namespace packmule::server {

class ClientStream {
 public:
  using Socket = boost::asio::ip::tcp::socket;
  using executor_type = Socket::executor_type;

  /// `tls` null: none. Else it must outlive this, and a handshake comes before all else.
  ClientStream(Socket socket, boost::asio::ssl::context* tls) : socket_(std::move(socket)) {
    if (tls != nullptr) tls_.emplace(socket_, *tls);
  }

  ClientStream(const ClientStream&) = delete;
  ClientStream& operator=(const ClientStream&) = delete;

  [[nodiscard]] executor_type get_executor() { return socket_.get_executor(); }
  /// Beneath the TLS: to set options, to cancel, to close.
  [[nodiscard]] Socket& socket() { return socket_; }
  [[nodiscard]] bool has_tls() const { return tls_.has_value(); }

  template <class Buffers, class Token>
  auto async_read_some(const Buffers& buffers, Token&& token) {
    if (tls_) return tls_->async_read_some(buffers, std::forward<Token>(token));
    return socket_.async_read_some(buffers, std::forward<Token>(token));
  }
  template <class Buffers, class Token>
  auto async_write_some(const Buffers& buffers, Token&& token) {
    if (tls_) return tls_->async_write_some(buffers, std::forward<Token>(token));
    return socket_.async_write_some(buffers, std::forward<Token>(token));
  }

  /// Only with TLS. True when the client agrees on keys.
  [[nodiscard]] boost::asio::awaitable<bool> handshake() {
    auto [ec] = co_await tls_->async_handshake(boost::asio::ssl::stream_base::server, kAwait);
    co_return !ec;
  }
  /// Tells the client that nothing more comes, without which a TLS client takes the end for an attack. With
  /// TLS it ends when the client has said the same, or by cancelling.
  boost::asio::awaitable<void> end_sending() {
    boost::system::error_code ignored;
    if (tls_) {
      (void)co_await tls_->async_shutdown(kAwait);
    } else {
      socket_.shutdown(Socket::shutdown_send, ignored);
    }
  }

 private:
  static constexpr auto kAwait = boost::asio::as_tuple(boost::asio::use_awaitable);

  Socket socket_;
  std::optional<boost::asio::ssl::stream<Socket&>> tls_;
};

}  // namespace packmule::server
