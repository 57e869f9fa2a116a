#include "server/server.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <csignal>
#include <mutex>
#include <thread>

#include "base/json.h"

namespace packmule::server {
namespace {

using namespace std::chrono_literals;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;
using Clock = std::chrono::steady_clock;

/// A plain socket to the server.
class Client {
 public:
  explicit Client(uint16_t port, int receive_buffer = 0) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    if (receive_buffer > 0) ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  }
  ~Client() { close(); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  [[nodiscard]] bool connected() const { return connected_; }
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  /// Ends the connection by a reset.
  void reset() {
    const linger hard{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close();
  }
  void shutdown_send() { ::shutdown(fd_, SHUT_WR); }
  /// False when the server has closed or takes no more for five seconds.
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      pollfd p{.fd = fd_, .events = POLLOUT};
      if (::poll(&p, 1, 5000) <= 0) return false;
      const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (n <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(n));
    }
    return true;
  }
  /// What has come until `enough` says so, the connection ends, or nothing comes for `patience`.
  template <class Enough>
  std::string read(Enough enough, std::chrono::milliseconds patience = 5000ms) {
    while (!enough(received_)) {
      pollfd p{.fd = fd_, .events = POLLIN};
      if (::poll(&p, 1, static_cast<int>(patience.count())) <= 0) break;
      char buffer[16384];
      const ssize_t n = ::recv(fd_, buffer, sizeof buffer, 0);
      if (n <= 0) {
        ended_ = true;
        break;
      }
      received_.append(buffer, static_cast<size_t>(n));
    }
    return std::exchange(received_, {});
  }
  std::string read_all() {
    return read([](const std::string&) { return false; });
  }
  std::string read_until(std::string_view end) {
    return read([end](const std::string& s) { return s.find(end) != std::string::npos; });
  }
  /// The server has closed: after read().
  [[nodiscard]] bool ended() const { return ended_; }

 private:
  int fd_;
  bool connected_ = false;
  bool ended_ = false;
  std::string received_;
};

/// Answers by path: /echo the body; /stream some chunks from another thread; /flood writes until told to
/// stop; /silent says nothing until its stop is requested; /drop forgets the request; /half drops it in the
/// middle; /throw throws.
class FakeHandler : public api::Handler {
 public:
  ~FakeHandler() override {
    for (auto& thread : threads_) thread.join();
  }
  void handle(api::HttpRequest request, std::shared_ptr<api::Responder> responder) override {
    const std::string path(request.path());
    if (path == "/echo") {
      responder->send(
          {.headers = {{"X-Method", request.method}, {"X-Seen", std::string(request.header("x-test"))}},
           .body = std::move(request.body)});
    } else if (path == "/empty") {
      responder->send({.status = 204});
    } else if (path == "/stream") {
      work([responder] {
        responder->start({.headers = {{"Content-Type", "text/event-stream"}}, .body = "data: first\n\n"});
        for (int i = 0; i < 20; ++i) {
          std::this_thread::sleep_for(1ms);
          responder->write("data: " + std::to_string(i) + "\n\n");
        }
        responder->write("data: [DONE]\n\n");
        responder->finish();
      });
    } else if (path == "/flood") {
      work([this, responder] {
        responder->start({});
        const std::string block(64 << 10, 'x');
        // A model writes slower than a socket: give the server the time to send what it can.
        while (responder->write(block)) {
          flooded_bytes += block.size();
          std::this_thread::sleep_for(100us);
        }
        ++n_ended;
      });
    } else if (path == "/silent") {
      ++n_silent;
      work([this, responder] {
        wait_for_stop(responder->stop_token());
        ++n_ended;
        responder->send({.status = 503, .body = "stopped"});
      });
    } else if (path == "/half") {
      responder->start({.body = "half"});
    } else if (path == "/throw") {
      throw std::runtime_error("on purpose");
    }
  }

  std::atomic<int> n_silent = 0;
  std::atomic<int> n_ended = 0;
  std::atomic<size_t> flooded_bytes = 0;

 private:
  static void wait_for_stop(const std::stop_token& stop) {
    std::mutex mutex;
    std::condition_variable_any never;
    std::unique_lock lock(mutex);
    never.wait(lock, stop, [] { return false; });
  }
  template <class Job>
  void work(Job job) {
    threads_.emplace_back(std::move(job));  // on the I/O thread only
  }
  std::vector<std::thread> threads_;
};

class Running {
 public:
  explicit Running(ServerOptions options = {}) {
    options.port = 0;
    server = Server::listen(std::move(options), handler).value();
    thread = std::thread([this] {
      server->run();
      ended = true;
    });
  }
  ~Running() { stop(); }
  void stop() {
    if (!thread.joinable()) return;
    server->stop();
    server->stop();  // the second call cancels at once
    thread.join();
  }
  [[nodiscard]] uint16_t port() const { return server->port(); }

  FakeHandler handler;
  std::unique_ptr<Server> server;
  std::atomic<bool> ended = false;
  std::thread thread;
};

template <class Condition>
bool soon(Condition condition, std::chrono::milliseconds limit = 30s) {
  const auto end = Clock::now() + limit;
  while (!condition()) {
    if (Clock::now() > end) return false;
    std::this_thread::sleep_for(1ms);
  }
  return true;
}

std::string get(std::string_view path, std::string_view headers = "") {
  return fmt::format("GET {} HTTP/1.1\r\nHost: x\r\n{}\r\n", path, headers);
}
std::string post(std::string_view path, std::string_view body, std::string_view headers = "") {
  return fmt::format("POST {} HTTP/1.1\r\nHost: x\r\n{}Content-Length: {}\r\n\r\n{}", path, headers,
                     body.size(), body);
}

/// The body of a chunked answer; nullopt when the form is wrong or it is not complete.
std::optional<std::string> unchunk(std::string_view answer) {
  const size_t head = answer.find("\r\n\r\n");
  if (head == std::string_view::npos) return std::nullopt;
  answer.remove_prefix(head + 4);
  std::string body;
  while (true) {
    const size_t line = answer.find("\r\n");
    if (line == std::string_view::npos) return std::nullopt;
    const size_t size = std::stoul(std::string(answer.substr(0, line)), nullptr, 16);
    answer.remove_prefix(line + 2);
    if (answer.size() < size + 2 || answer.substr(size, 2) != "\r\n") return std::nullopt;
    body += answer.substr(0, size);
    answer.remove_prefix(size + 2);
    if (size == 0) return answer.empty() ? std::optional(body) : std::nullopt;
  }
}

std::string expected_stream() {
  std::string out = "data: first\n\n";
  for (int i = 0; i < 20; ++i) out += "data: " + std::to_string(i) + "\n\n";
  return out + "data: [DONE]\n\n";
}

TEST(Server, AnswersAndKeepsTheConnection) {
  Running s;
  Client c(s.port());
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(c.send(post("/echo?q=1", "hello", "X-Test: yes\r\n")));
    const std::string answer = c.read_until("hello");
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
    EXPECT_THAT(answer, HasSubstr("\r\nContent-Length: 5\r\n"));
    EXPECT_THAT(answer, HasSubstr("\r\nX-Method: POST\r\n"));
    EXPECT_THAT(answer, HasSubstr("\r\nX-Seen: yes\r\n"));
    EXPECT_THAT(answer, EndsWith("\r\n\r\nhello"));
  }
  ASSERT_TRUE(c.send(post("/echo", "bye", "Connection: close\r\n")));
  EXPECT_THAT(c.read_all(), HasSubstr("\r\nConnection: close\r\n"));
  EXPECT_TRUE(c.ended());
}

TEST(Server, AnswersOldAndShortForms) {
  Running s;
  Client old(s.port());
  ASSERT_TRUE(old.send("GET /echo HTTP/1.0\r\n\r\n"));
  EXPECT_THAT(old.read_all(), HasSubstr("200 OK"));
  EXPECT_TRUE(old.ended());
  // No chunks for a client that does not know them: the end of the connection is the end.
  Client old_stream(s.port());
  ASSERT_TRUE(old_stream.send("GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
  EXPECT_THAT(old_stream.read_all(), EndsWith("\r\n\r\n" + expected_stream()));
  EXPECT_TRUE(old_stream.ended());
  Client head(s.port());
  ASSERT_TRUE(head.send("HEAD /echo HTTP/1.1\r\nHost: x\r\n\r\n" + get("/empty") +
                        get("/echo", "Connection: close\r\n")));
  const std::string answers = head.read_all();
  EXPECT_THAT(answers, HasSubstr("HTTP/1.1 204 No Content\r\n"));
  EXPECT_THAT(answers, EndsWith("\r\n\r\n"));
}

TEST(Server, StreamsInChunks) {
  Running s;
  Client c(s.port());
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(c.send(get("/stream")));
    const std::string answer = c.read_until("\r\n0\r\n\r\n");
    EXPECT_THAT(answer, HasSubstr("Transfer-Encoding: chunked\r\n"));
    EXPECT_EQ(unchunk(answer), expected_stream());
  }
}

TEST(Server, AnswersPipelinedRequestsInOrder) {
  Running s;
  Client c(s.port());
  std::string requests;
  for (int i = 0; i < 50; ++i) requests += i == 20 ? get("/stream") : post("/echo", fmt::format("<{}>", i));
  ASSERT_TRUE(c.send(requests));
  const std::string answers = c.read_until("<49>");
  size_t at = 0;
  for (int i = 0; i < 50; ++i) {
    const size_t found = answers.find(i == 20 ? "[DONE]" : fmt::format("<{}>", i), at);
    ASSERT_NE(found, std::string::npos) << i;
    at = found;
  }
}

TEST(Server, TakesRequestsByteByByteAndChunkedBodies) {
  Running s;
  Client c(s.port());
  for (const char byte : post("/echo", "drop by drop")) ASSERT_TRUE(c.send(std::string_view(&byte, 1)));
  EXPECT_THAT(c.read_until("drop by drop"), HasSubstr("200 OK"));
  ASSERT_TRUE(
      c.send("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: "
             "chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"));
  EXPECT_THAT(c.read_until("abcde"), HasSubstr("Content-Length: 5\r\n"));
}

TEST(Server, AsksForTheBodyWhenTheClientWaitsForThat) {
  Running s({.max_body_bytes = 1000});
  Client c(s.port());
  ASSERT_TRUE(c.send("POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"));
  EXPECT_EQ(c.read_until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  ASSERT_TRUE(c.send("body"));
  EXPECT_THAT(c.read_until("body"), StartsWith("HTTP/1.1 200"));
  // A body that is too large is refused before it is sent.
  ASSERT_TRUE(
      c.send("POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1001\r\n\r\n"));
  EXPECT_THAT(c.read_until("}"), StartsWith("HTTP/1.1 413"));
}

void expect_refused(Running& s, std::string_view bytes, std::string_view status, std::string_view code) {
  Client c(s.port());
  c.send(bytes);  // may be cut short by the refusal
  const std::string answer = c.read_all();
  ASSERT_THAT(answer, StartsWith(fmt::format("HTTP/1.1 {}", status))) << bytes.substr(0, 100);
  EXPECT_THAT(answer, HasSubstr("Connection: close\r\n"));
  EXPECT_EQ(Json::parse(answer.substr(answer.find("\r\n\r\n")))["error"]["code"], code);
  EXPECT_TRUE(c.ended());
}

TEST(Server, RefusesInTheFormOfThePath) {
  Running s({.max_header_bytes = 2000, .max_body_bytes = 1000, .linger_timeout = 200ms});
  const auto error_of = [&](const std::string& bytes) {
    Client c(s.port());
    c.send(bytes);
    const std::string answer = c.read_all();
    return Json::parse(answer.substr(answer.find("\r\n\r\n")));
  };
  Json error = error_of(post("/v1/messages?beta=true", std::string(1001, 'b')));
  EXPECT_EQ(error["type"], "error");
  EXPECT_EQ(error["error"]["type"], "request_too_large");
  error = error_of("POST /v1/messages HTTP/1.1\r\nX: " + std::string(3000, 'a') + "\r\n\r\n");
  EXPECT_EQ(error["type"], "error");
  EXPECT_EQ(error["error"]["type"], "invalid_request_error");
  EXPECT_FALSE(error_of(post("/echo", std::string(1001, 'b'))).contains("type"));
}

TEST(Server, RefusesWhatIsTooLargeOrBroken) {
  Running s({.max_header_bytes = 2000,
             .max_body_bytes = 100'000,
             .max_total_body_bytes = 150'000,
             .linger_timeout = 200ms});
  expect_refused(s, get("/echo", "X: " + std::string(3000, 'a') + "\r\n"), "431", "header_too_large");
  expect_refused(s, get(std::string(300'000, '/')), "431", "header_too_large");
  expect_refused(s, post("/echo", std::string(100'001, 'b')), "413", "body_too_large");
  expect_refused(
      s, "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n30000\r\n" + std::string(0x30000, 'c'),
      "413", "body_too_large");
  expect_refused(s, "hello\r\n\r\n", "400", "bad_request");
  expect_refused(s, "GET /echo HTTP/9.9\r\n\r\n", "400", "bad_request");
  expect_refused(s, "POST /echo HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "400", "bad_request");
  expect_refused(s, "POST /echo HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde", "400",
                 "bad_request");
  expect_refused(s, "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "400", "bad_request");
  expect_refused(s, std::string("\0\1\2\3\r\n\r\n", 8), "400", "bad_request");
  // The largest that is allowed passes.
  Client c(s.port());
  ASSERT_TRUE(c.send(post("/echo", std::string(100'000, 'd'))));
  EXPECT_THAT(c.read_until(std::string(100'000, 'd')), StartsWith("HTTP/1.1 200"));
}

TEST(Server, BoundsTheBodiesOfAllTogether) {
  Running s({.max_body_bytes = 100'000, .max_total_body_bytes = 150'000, .linger_timeout = 200ms});
  Client first(s.port());
  const std::string request = post("/echo", std::string(100'000, 'd'));
  ASSERT_TRUE(first.send(request.substr(0, 99'000)));
  std::this_thread::sleep_for(50ms);
  expect_refused(s, request, "503", "busy");
  ASSERT_TRUE(first.send(request.substr(99'000)));
  EXPECT_THAT(first.read_until("ddd"), StartsWith("HTTP/1.1 200"));
  Client after(s.port());
  ASSERT_TRUE(after.send(request));
  EXPECT_THAT(after.read_until("ddd"), StartsWith("HTTP/1.1 200"));
}

TEST(Server, DoesNotWaitForSlowSenders) {
  Running s(
      {.idle_timeout = 150ms, .header_timeout = 150ms, .body_stall_timeout = 150ms, .linger_timeout = 100ms});
  Client idle(s.port());
  EXPECT_EQ(idle.read_all(), "");
  EXPECT_TRUE(idle.ended());
  expect_refused(s, "GET /echo HT", "408", "timeout");
  expect_refused(s, "POST /echo HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc", "408", "timeout");
  // A byte now and then does not make the header last longer.
  Client drip(s.port());
  int n_sent = 0;
  while (n_sent < 3000 && drip.send("G")) {
    ++n_sent;
    std::this_thread::sleep_for(20ms);
  }
  EXPECT_LT(n_sent, 3000) << "a minute";
  // One that leaves in the middle is no news.
  Client gone(s.port());
  gone.send("POST /echo HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc");
  gone.close();
  Client fine(s.port());
  ASSERT_TRUE(fine.send(get("/echo")));
  EXPECT_THAT(fine.read_until("\r\n\r\n"), HasSubstr("200 OK"));
}

TEST(Server, SeesAClientLeaveDuringSilence) {
  Running s;
  for (const bool hard : {false, true}) {
    const int before = s.handler.n_ended;
    Client c(s.port());
    ASSERT_TRUE(c.send(get("/silent")));
    ASSERT_TRUE(soon([&] { return s.handler.n_silent == before + 1; }));
    std::this_thread::sleep_for(20ms);
    EXPECT_EQ(s.handler.n_ended, before);
    if (hard)
      c.reset();
    else
      c.close();
    ASSERT_TRUE(soon([&] { return s.handler.n_ended == before + 1; }));
  }
}

TEST(Server, SeesAClientLeaveThatHasPipelined) {
  Running s;
  Client c(s.port());
  ASSERT_TRUE(c.send(get("/silent") + get("/echo")));
  ASSERT_TRUE(soon([&] { return s.handler.n_silent == 1; }));
  ASSERT_TRUE(c.send(get("/echo")));
  std::this_thread::sleep_for(20ms);
  EXPECT_EQ(s.handler.n_ended, 0);
  c.close();
  EXPECT_TRUE(soon([&] { return s.handler.n_ended == 1; }));
}

TEST(Server, CancelsButAnswersAClientThatClosedOnlyItsHalf) {
  Running s;
  Client c(s.port());
  ASSERT_TRUE(c.send(get("/silent")));
  c.shutdown_send();
  EXPECT_THAT(c.read_all(), EndsWith("stopped"));
  Client quick(s.port());
  ASSERT_TRUE(quick.send(post("/echo", "quick")));
  quick.shutdown_send();
  EXPECT_THAT(quick.read_all(), EndsWith("quick"));
}

TEST(Server, StopsTheWorkForASlowReader) {
  Running s({.max_unread_bytes = 256 << 10, .write_stall_timeout = 300ms});
  Client c(s.port(), 4096);
  ASSERT_TRUE(c.send(get("/flood")));
  ASSERT_TRUE(soon([&] { return s.handler.n_ended == 1; }, 10'000ms));
  // What the kernel's buffers take, plus the bound, plus what was on its way.
  EXPECT_LT(s.handler.flooded_bytes.load(), size_t{16} << 20);
  const std::string answer = c.read_all();
  EXPECT_TRUE(c.ended());
  EXPECT_EQ(unchunk(answer), std::nullopt);  // must not look complete
}

TEST(Server, AnswersForAHandlerThatFails) {
  Running s;
  for (const char* path : {"/drop", "/throw"}) {
    Client c(s.port());
    ASSERT_TRUE(c.send(get(path)));
    EXPECT_THAT(c.read_until("}}"), StartsWith("HTTP/1.1 500"));
    EXPECT_FALSE(c.ended());
  }
  Client half(s.port());
  ASSERT_TRUE(half.send(get("/half")));
  const std::string answer = half.read_all();
  EXPECT_THAT(answer, HasSubstr("half"));
  EXPECT_TRUE(half.ended());
  EXPECT_EQ(unchunk(answer), std::nullopt);
}

TEST(Server, Holds200StreamsAtOnce) {
  Running s;
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 200; ++i) {
    clients.push_back(std::make_unique<Client>(s.port()));
    ASSERT_TRUE(clients.back()->connected());
    ASSERT_TRUE(clients.back()->send(get("/stream")));
  }
  for (auto& c : clients) EXPECT_EQ(unchunk(c->read_until("\r\n0\r\n\r\n")), expected_stream());
}

TEST(Server, ManyMayLeaveAtOnce) {
  Running s;
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 100; ++i) {
    clients.push_back(std::make_unique<Client>(s.port()));
    ASSERT_TRUE(clients.back()->send(get("/silent")));
  }
  ASSERT_TRUE(soon([&] { return s.handler.n_silent == 100; }));
  clients.clear();
  EXPECT_TRUE(soon([&] { return s.handler.n_ended == 100; }));
}

TEST(Server, LetsFurtherConnectionsWait) {
  Running s({.max_connections = 2});
  auto first = std::make_unique<Client>(s.port());
  Client second(s.port());
  ASSERT_TRUE(first->send(get("/echo")));
  ASSERT_TRUE(second.send(get("/echo")));
  EXPECT_THAT(first->read_until("\r\n\r\n"), HasSubstr("200 OK"));
  EXPECT_THAT(second.read_until("\r\n\r\n"), HasSubstr("200 OK"));
  Client third(s.port());
  ASSERT_TRUE(third.send(get("/echo")));
  EXPECT_EQ(third.read([](const std::string& got) { return !got.empty(); }, 100ms), "");
  first.reset();
  EXPECT_THAT(third.read_until("\r\n\r\n"), HasSubstr("200 OK"));
}

TEST(Server, LogsNoQueryAndNoBody) {
  std::mutex mutex;
  std::vector<Access> log;
  {
    Running s({.log = [&](const Access& access) {
      const std::lock_guard lock(mutex);
      log.push_back(access);
    }});
    Client c(s.port());
    ASSERT_TRUE(c.send(post("/echo?secret", "prompt")));
    c.read_until("prompt");
  }
  ASSERT_EQ(log.size(), 1u);
  EXPECT_EQ(log[0].method, "POST");
  EXPECT_EQ(log[0].path, "/echo");
  EXPECT_EQ(log[0].status, 200);
  EXPECT_GT(log[0].response_bytes, 6u);
}

TEST(Server, LetsRunningRequestsFinishWhenStopped) {
  Running s;
  Client idle(s.port());
  Client c(s.port());
  ASSERT_TRUE(c.send(get("/stream")));
  c.read_until("first");
  s.server->stop();
  EXPECT_THAT(c.read_all(), EndsWith("\r\n0\r\n\r\n"));
  EXPECT_EQ(idle.read_all(), "");
  EXPECT_TRUE(idle.ended());
  EXPECT_TRUE(soon([&] { return s.ended.load(); }));
  EXPECT_FALSE(Client(s.port()).connected());
}

TEST(Server, CancelsThemWhenTheyTakeTooLong) {
  Running s({.stop_grace = 50ms});
  Client c(s.port());
  ASSERT_TRUE(c.send(get("/silent")));
  ASSERT_TRUE(soon([&] { return s.handler.n_silent == 1; }));
  s.server->stop();
  EXPECT_THAT(c.read_all(), EndsWith("stopped"));
  EXPECT_TRUE(soon([&] { return s.ended.load(); }));
}

TEST(Server, EndsOnASignal) {
  for (const int signal : {SIGTERM, SIGINT}) {
    Running s({.handle_signals = true, .stop_grace = 50ms});
    Client c(s.port());
    ASSERT_TRUE(c.send(get("/silent")));
    ASSERT_TRUE(soon([&] { return s.handler.n_silent == 1; }));
    ASSERT_EQ(::raise(signal), 0);
    EXPECT_THAT(c.read_all(), EndsWith("stopped"));
    EXPECT_TRUE(soon([&] { return s.ended.load(); }));
  }
}

TEST(Server, EndsOnASignalWithNothingToDo) {
  for (const bool with_idle_connection : {false, true}) {
    Running s({.handle_signals = true, .stop_grace = 10min});
    Client c(s.port());
    if (with_idle_connection) {
      ASSERT_TRUE(c.send(get("/echo")));
      c.read_until("\r\n\r\n");
    } else {
      c.close();
    }
    ASSERT_EQ(::raise(SIGTERM), 0);
    EXPECT_TRUE(soon([&] { return s.ended.load(); }));
  }
}

TEST(Server, CutsOffConnectionsThatDoNotEnd) {
  Running s({.stop_grace = 10ms, .stop_limit = 50ms});
  Client c(s.port());
  ASSERT_TRUE(c.send("POST /echo HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc"));
  std::this_thread::sleep_for(20ms);
  s.server->stop();
  EXPECT_TRUE(soon([&] { return s.ended.load(); }));
}

TEST(Server, SaysWhyItCannotListen) {
  Running s;
  FakeHandler handler;
  const auto taken = Server::listen({.port = s.port()}, handler);
  ASSERT_FALSE(taken);
  EXPECT_THAT(taken.error().message, HasSubstr(fmt::format("127.0.0.1:{}", s.port())));
  EXPECT_THAT(taken.error().message, HasSubstr("--port"));
  EXPECT_FALSE(Server::listen({.host = "256.1.1.1", .port = 0}, handler));
}

}  // namespace
}  // namespace packmule::server
