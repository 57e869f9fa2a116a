#include "server/connection.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/status.hpp>
#include <boost/beast/http/string_body.hpp>
#include <ctime>
#include <optional>

#include "api/error.h"

namespace packmule::server {
namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;

namespace {

/// Operations give (error_code, ...) instead of throwing.
constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
using Clock = std::chrono::steady_clock;

/// A client that sends further requests before the first is answered is read up to here.
constexpr size_t kMaxPipelinedBytes = size_t{64} << 10;
constexpr size_t kReadBytes = size_t{16} << 10;

/// The bytes of a body count against the limit for all connections as long as this lives.
class BodyCount {
 public:
  explicit BodyCount(size_t& total) : total_(total) {}
  ~BodyCount() { total_ -= mine_; }
  BodyCount(const BodyCount&) = delete;
  BodyCount& operator=(const BodyCount&) = delete;
  void set(size_t bytes) {
    total_ += bytes - mine_;
    mine_ = bytes;
  }

 private:
  size_t& total_;
  size_t mine_ = 0;
};

std::string chunk(std::string_view bytes) {
  return fmt::format("{:x}\r\n{}\r\n", bytes.size(), bytes);
}

}  // namespace

struct Connection::Received {
  std::optional<api::HttpRequest> request;
  bool keep_alive = false;
  unsigned http_version = 11;
  // Without a request: the answer to give, or 0 to close without one.
  int status = 0;
  std::string code;
  std::string message;
  std::string target;  // as far as it is known

  void refuse(int with_status, std::string with_code, std::string with_message) {
    status = with_status;
    code = std::move(with_code);
    message = std::move(with_message);
  }
};

Connection::Connection(asio::ip::tcp::socket socket, Shared& shared)
    : stream_(std::move(socket), shared.tls ? &*shared.tls : nullptr),
      shared_(shared),
      buffer_(shared.options.max_header_bytes + 2 * kMaxPipelinedBytes),
      deadline_(stream_.get_executor()),
      signal_timer_(stream_.get_executor()) {
  shared_.connections.insert(this);
  error_code ignored;
  stream_.socket().set_option(asio::ip::tcp::no_delay(true), ignored);
}

Connection::~Connection() {
  if (mailbox_) mailbox_->close();
  shared_.connections.erase(this);
  if (shared_.on_connection_end) shared_.on_connection_end();
}

asio::awaitable<void> Connection::run() {
  bool open = true;
  if (stream_.has_tls()) {
    arm(shared_.options.header_timeout);
    waiting_for_request_ = true;
    open = co_await stream_.handshake();
    waiting_for_request_ = false;
    disarm();
  }
  while (open) {
    const Next next = co_await serve_one();
    if (next == Next::kClose) break;
  }
  if (answered_ && !peer_gone_) co_await linger();
  error_code ignored;
  stream_.socket().close(ignored);
}

asio::awaitable<Connection::Next> Connection::serve_one() {
  Received received;
  answered_ = false;
  co_await receive(received);
  disarm();
  timed_out_ = false;  // the time for receiving is over, not the one for answering
  answered_ = received.request || received.status != 0 || buffer_.size() > 0;
  if (received.request) {
    const Next next =
        co_await respond(std::move(*received.request), received.keep_alive, received.http_version);
    co_return next;
  }
  if (received.status != 0) co_await refuse(received);
  co_return Next::kClose;
}

// ---- receiving ----

asio::awaitable<void> Connection::receive(Received& out) {
  const ServerOptions& limits = shared_.options;
  if (shared_.stopping || peer_gone_) co_return;
  if (buffer_.size() == 0) {
    arm(limits.idle_timeout);
    waiting_for_request_ = true;
    auto [ec, n] = co_await stream_.async_read_some(buffer_.prepare(kReadBytes), kAwait);
    waiting_for_request_ = false;
    if (ec) co_return;
    buffer_.commit(n);
  }

  http::request_parser<http::string_body> parser;
  parser.header_limit(static_cast<std::uint32_t>(limits.max_header_bytes));
  parser.body_limit(limits.max_body_bytes);
  BodyCount body_count(shared_.body_bytes);
  const auto refuse_parse_error = [&](error_code ec) {
    out.target = std::string(parser.get().target());
    if (timed_out_)
      out.refuse(408, "timeout", "the request did not arrive in time");
    else if (ec == http::error::header_limit || ec == http::error::buffer_overflow)
      out.refuse(431, "header_too_large",
                 fmt::format("the header of the request is larger than {} bytes", limits.max_header_bytes));
    else if (ec == http::error::body_limit)
      out.refuse(413, "body_too_large",
                 fmt::format("the body of the request is larger than {} bytes", limits.max_body_bytes));
    else if (ec.category() == http::make_error_code(http::error::bad_method).category() &&
             ec != http::error::end_of_stream && ec != http::error::partial_message)
      out.refuse(400, "bad_request", fmt::format("not a valid HTTP request: {}", ec.message()));
  };

  arm(limits.header_timeout);
  {
    auto [ec, n] = co_await http::async_read_header(stream_, buffer_, parser, kAwait);
    if (ec || timed_out_) co_return refuse_parse_error(ec);
  }
  if (boost::beast::iequals(parser.get()[http::field::expect], "100-continue") && !parser.is_done()) {
    const bool written = co_await write_all("HTTP/1.1 100 Continue\r\n\r\n");
    if (!written) co_return;
  }
  const auto body_deadline = Clock::now() + limits.body_timeout;
  while (!parser.is_done()) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(body_deadline - Clock::now());
    arm(std::max(std::chrono::milliseconds(0), std::min(limits.body_stall_timeout, left)));
    auto [ec, n] = co_await http::async_read_some(stream_, buffer_, parser, kAwait);
    if (ec || timed_out_) co_return refuse_parse_error(ec);
    body_count.set(parser.get().body().size());
    if (shared_.body_bytes > limits.max_total_body_bytes) {
      out.target = std::string(parser.get().target());
      co_return out.refuse(503, "busy", "too much is being sent at once, try again later");
    }
  }

  auto message = parser.release();
  api::HttpRequest request{.method = std::string(message.method_string()),
                           .target = std::string(message.target())};
  for (const auto& field : message)
    request.headers.emplace_back(std::string(field.name_string()), std::string(field.value()));
  request.body = std::move(message.body());
  out.keep_alive = message.keep_alive();
  out.http_version = message.version();
  out.request = std::move(request);
}

// ---- answering ----

std::string Connection::head_text(const api::HttpResponse& head, bool keep_alive, unsigned http_version,
                                  std::string_view length) const {
  std::string out = fmt::format(
      "HTTP/1.1 {} {}\r\nServer: packmule\r\nDate: {:%a, %d %b %Y %H:%M:%S} GMT\r\n", head.status,
      std::string_view(http::obsolete_reason(http::int_to_status(static_cast<unsigned>(head.status)))),
      fmt::gmtime(std::time(nullptr)));
  for (const auto& [name, value] : head.headers) out += fmt::format("{}: {}\r\n", name, value);
  out += length;
  if (!keep_alive)
    out += "Connection: close\r\n";
  else if (http_version < 11)
    out += "Connection: keep-alive\r\n";
  return out + "\r\n";
}

asio::awaitable<void> Connection::refuse(const Received& received) {
  const int status = received.status;
  const api::HttpResponse response =
      api::ApiError{.status = status,
                    .type = status == 503 ? "unavailable_error" : "invalid_request_error",
                    .message = received.message,
                    .code = received.code}
          .response(api::error_form_of(received.target));
  const std::string bytes =
      head_text(response, false, 11, fmt::format("Content-Length: {}\r\n", response.body.size())) +
      response.body;
  (void)co_await write_all(bytes);
  if (shared_.options.log)
    shared_.options.log({.method = "?", .path = "?", .status = status, .response_bytes = bytes.size()});
}

asio::awaitable<Connection::Next> Connection::respond(api::HttpRequest request, bool keep_alive,
                                                      unsigned http_version) {
  const auto begin = Clock::now();
  Access access{.method = request.method, .path = std::string(request.path())};
  const bool is_head = request.method == "HEAD";

  // The mailbox may outlive the connection (the handler holds it), but does not wake it after close().
  mailbox_ = std::make_shared<Mailbox>(
      [this, executor = stream_.get_executor()] {
        asio::post(executor, [weak = weak_from_this()] {
          if (const auto self = weak.lock()) self->signal();
        });
      },
      shared_.options.max_unread_bytes);
  watch_wanted_ = true;
  watch();
  {
    auto responder = Mailbox::responder(mailbox_);
    try {
      shared_.handler->handle(std::move(request), std::move(responder));
    } catch (const std::exception&) {
      // The responder is gone with the exception: the answer is 500, or the end of what was begun.
    }
  }

  bool complete = false;
  bool chunked = false;
  while (true) {
    Mailbox::Taken taken = mailbox_->take();
    if (taken.abandoned && access.status == 0 && !taken.head) {
      taken.head = api::ApiError{.status = 500,
                                 .type = "server_error",
                                 .message = "the request was not answered",
                                 .code = "internal_error"}
                       .response(api::error_form_of(access.path));
      taken.bytes = std::move(taken.head->body);
      taken.whole = taken.finished = true;
    }
    std::string out;
    if (taken.head) {
      access.status = taken.head->status;
      keep_alive = keep_alive && !shared_.stopping;
      const bool no_body = is_head || access.status == 204 || access.status == 304;
      if (taken.whole) {
        out =
            head_text(*taken.head, keep_alive, http_version,
                      access.status == 204 ? "" : fmt::format("Content-Length: {}\r\n", taken.bytes.size()));
        if (!no_body) out += taken.bytes;
      } else {
        chunked = http_version >= 11;
        keep_alive = keep_alive && chunked;  // else the end of the connection is the end of the body
        out =
            head_text(*taken.head, keep_alive, http_version, chunked ? "Transfer-Encoding: chunked\r\n" : "");
      }
    }
    if (!taken.whole && !taken.bytes.empty()) out += chunked ? chunk(taken.bytes) : taken.bytes;
    if (!taken.whole && taken.finished && chunked) out += "0\r\n\r\n";
    if (!out.empty()) {
      access.response_bytes += out.size();
      const bool written = co_await write_all(out);
      if (!written) break;
    }
    if (taken.finished) {
      complete = true;
      break;
    }
    if (taken.abandoned) break;
    co_await wait_for_signal();
  }

  mailbox_->close();
  mailbox_.reset();
  co_await end_watch();
  access.ms = std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
  if (shared_.options.log) shared_.options.log(access);
  co_return complete&& keep_alive && !peer_gone_ ? Next::kAnotherRequest : Next::kClose;
}

asio::awaitable<bool> Connection::write_all(std::string_view bytes) {
  while (!bytes.empty()) {
    arm(shared_.options.write_stall_timeout);
    auto [ec, n] = co_await stream_.async_write_some(asio::buffer(bytes), kAwait);
    if (ec || timed_out_) {
      peer_gone_ = true;
      break;
    }
    bytes.remove_prefix(n);
  }
  disarm();
  co_return bytes.empty();
}

/// Reads and throws away what the client still sends, until it closes: closing with unread bytes would reset
/// the connection and could take the answer with it.
asio::awaitable<void> Connection::linger() {
  timed_out_ = false;
  arm(shared_.options.linger_timeout);
  co_await stream_.end_sending();
  std::string scratch(kReadBytes, '\0');
  while (!timed_out_) {
    auto [ec, n] = co_await stream_.async_read_some(asio::buffer(scratch), kAwait);
    if (ec) break;
  }
  disarm();
}

// ---- the outstanding read, waking, time ----

void Connection::watch() {
  if (!watch_wanted_ || watching_ || peer_gone_ || buffer_.size() >= kMaxPipelinedBytes) return;
  watching_ = true;
  stream_.async_read_some(buffer_.prepare(kReadBytes), [self = shared_from_this()](error_code ec, size_t n) {
    self->watching_ = false;
    if (!ec) {
      self->buffer_.commit(n);
      self->watch();
    } else if (ec != asio::error::operation_aborted) {
      self->peer_gone_ = true;
      if (self->mailbox_) self->mailbox_->request_stop();
    }
    self->signal();
  });
}

asio::awaitable<void> Connection::end_watch() {
  watch_wanted_ = false;
  while (watching_) {
    error_code ignored;
    stream_.socket().cancel(ignored);
    co_await wait_for_signal();
  }
}

void Connection::signal() {
  signalled_ = true;
  signal_timer_.cancel();
}

asio::awaitable<void> Connection::wait_for_signal() {
  while (!signalled_) {
    signal_timer_.expires_at(asio::steady_timer::time_point::max());
    (void)co_await signal_timer_.async_wait(kAwait);
  }
  signalled_ = false;
}

void Connection::arm(std::chrono::milliseconds timeout) {
  deadline_.expires_after(timeout);
  deadline_.async_wait([weak = weak_from_this()](error_code ec) {
    const auto self = weak.lock();
    // A wait that had already ended when the timer was set anew is not the one that counts.
    if (ec || !self || self->deadline_.expiry() > Clock::now()) return;
    self->timed_out_ = true;
    self->stream_.socket().cancel(ec);
  });
}

void Connection::disarm() {
  deadline_.expires_at(asio::steady_timer::time_point::max());
}

void Connection::finish_current() {
  error_code ignored;
  if (waiting_for_request_) stream_.socket().cancel(ignored);
}

void Connection::cancel_current() {
  error_code ignored;
  if (mailbox_)
    mailbox_->request_stop();
  else
    stream_.socket().cancel(ignored);
}

}  // namespace packmule::server
