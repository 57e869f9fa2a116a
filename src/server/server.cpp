#include "server/server.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <csignal>

#include "server/connection.h"

namespace packmule::server {
namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

struct Server::Impl {
  explicit Impl(ServerOptions options, api::Handler& handler)
      : acceptor(io), signals(io), stop_timer(io), room_timer(io) {
    shared.options = std::move(options);
    shared.handler = &handler;
    shared.on_connection_end = [this] { on_connection_end(); };
  }
  ~Impl() { shared.on_connection_end = nullptr; }

  Status set_up_tls();
  Status bind();
  asio::awaitable<void> accept_all();
  void wait_for_signal();
  void begin_stop();
  void cancel_all();
  void on_connection_end();

  Shared shared;  // outlives the connections, which the io_context owns
  asio::io_context io{1};
  tcp::acceptor acceptor;
  asio::signal_set signals;
  asio::steady_timer stop_timer;
  asio::steady_timer room_timer;  // cancelled when a connection ends
};

Status Server::Impl::set_up_tls() {
  const ServerOptions& options = shared.options;
  if (options.tls_certificate_path.empty() != options.tls_key_path.empty())
    return fail(
        ErrorKind::kInvalidArgument,
        "TLS needs a certificate and its key, only {} is given: give --ssl-cert-file and --ssl-key-file",
        options.tls_key_path.empty() ? "the certificate" : "the key");
  if (options.tls_key_path.empty()) return {};
  using Context = asio::ssl::context;
  Context& tls = shared.tls.emplace(Context::tls_server);
  error_code ec;
  tls.set_options(Context::default_workarounds | Context::no_sslv2 | Context::no_sslv3 | Context::no_tlsv1 |
                      Context::no_tlsv1_1 | Context::single_dh_use,
                  ec);
  if (!ec) tls.use_certificate_chain_file(options.tls_certificate_path, ec);
  if (ec)
    return fail(ErrorKind::kIo, "cannot use the certificate {} (--ssl-cert-file): {}; expected PEM",
                options.tls_certificate_path, ec.message());
  tls.use_private_key_file(options.tls_key_path, Context::pem, ec);
  if (ec)
    return fail(ErrorKind::kIo,
                "cannot use the key {} (--ssl-key-file): {}; expected the certificate's, as PEM",
                options.tls_key_path, ec.message());
  return {};
}

Status Server::Impl::bind() {
  const ServerOptions& options = shared.options;
  const auto failed = [&](const error_code& ec) {
    return fail(ErrorKind::kIo, "cannot listen on {}:{}: {}; choose another address with --host or --port",
                options.host, options.port, ec.message());
  };
  error_code ec;
  tcp::resolver resolver(io);
  const auto endpoints =
      resolver.resolve(options.host, std::to_string(options.port), tcp::resolver::passive, ec);
  if (ec) return failed(ec);
  for (const auto& entry : endpoints) {
    const tcp::endpoint endpoint = entry.endpoint();
    error_code ignored;
    acceptor.close(ignored);
    acceptor.open(endpoint.protocol(), ec);
    if (!ec) acceptor.set_option(tcp::acceptor::reuse_address(true), ignored);
    if (!ec) acceptor.bind(endpoint, ec);
    if (!ec) acceptor.listen(tcp::acceptor::max_listen_connections, ec);
    if (!ec) return {};
  }
  return failed(ec);
}

asio::awaitable<void> Server::Impl::accept_all() {
  constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
  while (!shared.stopping) {
    if (shared.connections.size() >= shared.options.max_connections) {
      room_timer.expires_at(asio::steady_timer::time_point::max());
      (void)co_await room_timer.async_wait(kAwait);
      continue;
    }
    auto [ec, socket] = co_await acceptor.async_accept(kAwait);
    if (ec == asio::error::operation_aborted) break;
    if (ec) {
      // No descriptors left, or a client that was gone already: neither is cured by asking again at once.
      room_timer.expires_after(std::chrono::milliseconds(50));
      (void)co_await room_timer.async_wait(kAwait);
      continue;
    }
    auto connection = std::make_shared<Connection>(std::move(socket), shared);
    asio::co_spawn(
        io, [connection]() -> asio::awaitable<void> { return connection->run(); },
        [connection](const std::exception_ptr&) {});
  }
}

void Server::Impl::wait_for_signal() {
  signals.async_wait([this](error_code ec, int) {
    if (ec) return;
    wait_for_signal();  // first: a server without connections ends this wait as it stops
    begin_stop();
  });
}

void Server::Impl::begin_stop() {
  if (shared.stopping) return cancel_all();
  shared.stopping = true;
  error_code ignored;
  acceptor.close(ignored);
  room_timer.cancel();
  // Copies: a connection that ends takes itself off the list.
  const auto connections = shared.connections;
  for (Connection* connection : connections) connection->finish_current();
  stop_timer.expires_after(shared.options.stop_grace);
  stop_timer.async_wait([this](error_code ec) {
    if (!ec) cancel_all();
  });
  on_connection_end();
}

void Server::Impl::cancel_all() {
  const auto connections = shared.connections;
  for (Connection* connection : connections) connection->cancel_current();
  stop_timer.expires_after(shared.options.stop_limit);
  stop_timer.async_wait([this](error_code ec) {
    if (!ec) io.stop();
  });
  on_connection_end();
}

/// With the last connection of a stopping server the reasons to keep running go, and run() returns.
void Server::Impl::on_connection_end() {
  room_timer.cancel();
  if (!shared.stopping || !shared.connections.empty()) return;
  stop_timer.cancel();
  error_code ignored;
  signals.cancel(ignored);
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() = default;

Result<std::unique_ptr<Server>> Server::listen(ServerOptions options, api::Handler& handler) {
  auto impl = std::make_unique<Impl>(std::move(options), handler);
  PACKMULE_TRY_STATUS(impl->set_up_tls());
  PACKMULE_TRY_STATUS(impl->bind());
  if (impl->shared.options.handle_signals) {
    error_code ec;
    for (const int number : {SIGINT, SIGTERM}) {
      impl->signals.add(number, ec);
      if (ec) return fail(ErrorKind::kIo, "cannot handle signals: {}", ec.message());
    }
  }
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

uint16_t Server::port() const {
  error_code ec;
  return impl_->acceptor.local_endpoint(ec).port();
}

void Server::run() {
  Impl& impl = *impl_;
  if (impl.shared.options.handle_signals) impl.wait_for_signal();
  asio::co_spawn(impl.io, impl.accept_all(), asio::detached);
  impl.io.run();
}

void Server::stop() {
  asio::post(impl_->io, [impl = impl_.get()] { impl->begin_stop(); });
}

}  // namespace packmule::server
