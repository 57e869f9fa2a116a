// Any bytes as what a client sends on a connection: the server answers with whole HTTP responses or none,
// never more of them than it could have read requests, closes, and goes on serving. The first byte says how
// the rest is cut.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

#include "server/server.h"

namespace {

using namespace packmule;

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "http_fuzzer: %s\n", what);
  std::abort();
}

/// Answers in every way there is, by the size of the body.
class Echo : public api::Handler {
 public:
  void handle(api::HttpRequest request, std::shared_ptr<api::Responder> responder) override {
    (void)request.path();
    (void)request.header("content-type");
    switch (request.body.size() % 4) {
      case 0:
        return responder->send({.status = 200, .body = request.body});
      case 1:
        responder->start({.status = 200, .headers = {{"Content-Type", "text/plain"}}, .body = "a"});
        (void)responder->write(request.body);
        return responder->finish();
      case 2:
        return responder->start({.status = 200});  // and drops it half way
      default:
        return;  // drops it unanswered
    }
  }
};

class RunningServer {
 public:
  static RunningServer& get() {
    static RunningServer server;
    return server;
  }
  [[nodiscard]] uint16_t port() const { return server_->port(); }

 private:
  RunningServer() {
    server::ServerOptions options{.port = 0};
    // Small, so that inputs of a few kilobytes reach them.
    options.max_header_bytes = 1024;
    options.max_body_bytes = 4096;
    options.max_total_body_bytes = 6000;
    auto made = server::Server::listen(options, handler_);
    require(made.has_value(), "it does not listen");
    server_ = std::move(*made);
    thread_ = std::jthread([this] { server_->run(); });
    // libFuzzer looks at the clock by a signal, which would end this thread's waits with EINTR. The server's
    // thread takes it instead; an input that hangs is found by the limit of receive().
    sigset_t alarm_only;
    sigemptyset(&alarm_only);
    sigaddset(&alarm_only, SIGALRM);
    require(::pthread_sigmask(SIG_BLOCK, &alarm_only, nullptr) == 0, "signals cannot be blocked");
  }
  ~RunningServer() { server_->stop(); }

  Echo handler_;
  std::unique_ptr<server::Server> server_;
  std::jthread thread_;
};

class Connection {
 public:
  Connection() : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(RunningServer::get().port());
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    require(::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0,
            "it takes no connections");
    const int on = 1;
    ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  ~Connection() {
    // A reset leaves no port behind that waits for late packets: there are not so many of them.
    const linger hard{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    ::close(fd_);
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  /// The server may close before it has read all.
  void send(std::string_view bytes) const {
    while (!bytes.empty()) {
      const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return;
      bytes.remove_prefix(static_cast<size_t>(n));
    }
  }
  void end_sending() const { ::shutdown(fd_, SHUT_WR); }
  /// Until the server closes.
  [[nodiscard]] std::string receive() const {
    std::string all;
    char part[4096];
    while (true) {
      pollfd p{.fd = fd_, .events = POLLIN, .revents = 0};
      require(::poll(&p, 1, 8000) > 0, "it neither answers nor closes within 8 s");
      const ssize_t n = ::recv(fd_, part, sizeof part, 0);
      if (n <= 0) return all;
      all.append(part, static_cast<size_t>(n));
    }
  }

 private:
  int fd_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const size_t cut = std::min<size_t>(bytes.size(), data[0] * 4u);
  {
    const Connection connection;
    connection.send(bytes.substr(0, cut));
    if (cut < bytes.size()) connection.send(bytes.substr(cut));
    connection.end_sending();
    const std::string answer = connection.receive();
    require(answer.empty() || answer.starts_with("HTTP/1.1 "), "what it says is no answer");
    // "POST / HTTP/1.1" and two line breaks are the least that can be answered, but for one refusal.
    size_t n_answers = 0;
    for (size_t at = 0; (at = answer.find("\r\nServer: packmule\r\n", at)) != std::string::npos; ++at)
      ++n_answers;
    // A body that is echoed may look like an answer.
    require(n_answers <= bytes.size() / 14 + 1, "it answers more than it was asked");
  }
  static unsigned count = 0;
  if (++count % 64 == 0) {
    const Connection healthy;
    healthy.send("GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    require(healthy.receive().starts_with("HTTP/1.1 200 "), "it serves nobody else any more");
  }
  return 0;
}
