#include "chat/worker_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <utility>

namespace packmule::chat {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::steady_clock;

constexpr milliseconds kStartTime{20'000};  // of the interpreter and its imports, on a cold disk
constexpr size_t kErrorRoomBytes = size_t{1} << 16;
constexpr int kFirstOwnFd = 10;  // above the numbers the child's descriptors get
constexpr int kScriptFd = 3;

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] int release() { return std::exchange(fd_, -1); }
  /// Moves the descriptor to a number the child does not use for anything else.
  [[nodiscard]] bool move_up() {
    const int higher = ::fcntl(fd_, F_DUPFD_CLOEXEC, kFirstOwnFd);
    if (higher < 0) return false;
    ::close(std::exchange(fd_, higher));
    return true;
  }

 private:
  int fd_;
};

std::string interpreter_path() {
  const char* named = std::getenv("PACKMULE_PYTHON");
  return named != nullptr && *named != '\0' ? named : "/usr/bin/python3";
}

tl::unexpected<Error> system_refused(const char* what) {
  return fail(ErrorKind::kIo, "chat template: cannot start the template worker: {}: {}", what,
              std::strerror(errno));
}

constexpr std::string_view kInstallHint =
    "install it (Debian: apt-get install python3 python3-jinja2), or name a Python 3 that has Jinja2 in the "
    "environment variable PACKMULE_PYTHON";

/// Spawns the interpreter; `socket` becomes its descriptor 0, `script` its descriptor 3.
Result<pid_t> spawn(const std::string& interpreter, int socket, int script) {
  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  if (posix_spawn_file_actions_init(&files) != 0) return system_refused("file actions");
  if (posix_spawnattr_init(&attributes) != 0) {
    posix_spawn_file_actions_destroy(&files);
    return system_refused("attributes");
  }
  posix_spawn_file_actions_adddup2(&files, socket, 0);
  posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addopen(&files, 2, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_adddup2(&files, script, kScriptFd);
  posix_spawn_file_actions_addclosefrom_np(&files, kScriptFd + 1);

  sigset_t none;
  sigset_t all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setflags(&attributes,
                           POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);

  // -I: no user site packages, no PYTHON* variables; -B: writes no bytecode files.
  const char* arguments[] = {interpreter.c_str(),
                             "-I",
                             "-B",
                             "-c",
                             "exec(open(3, encoding='utf-8').read())",
                             "packmule chat template worker",
                             nullptr};
  const char* environment[] = {"LC_ALL=C.UTF-8", nullptr};
  pid_t pid = -1;
  const int error = posix_spawn(&pid, interpreter.c_str(), &files, &attributes,
                                const_cast<char* const*>(arguments), const_cast<char* const*>(environment));
  posix_spawn_file_actions_destroy(&files);
  posix_spawnattr_destroy(&attributes);
  if (error != 0)
    return fail(ErrorKind::kUnsupported, "chat template: cannot start {}: {}: {}", interpreter,
                std::strerror(error), kInstallHint);
  return pid;
}

Result<int> script_file() {
  Fd file(::memfd_create("packmule-template-worker", MFD_CLOEXEC));
  if (file.get() < 0 || !file.move_up()) return system_refused("memfd_create");
  std::string_view rest = kTemplateWorkerScript;
  while (!rest.empty()) {
    const ssize_t n = ::write(file.get(), rest.data(), rest.size());
    if (n < 0) return system_refused("write");
    rest.remove_prefix(static_cast<size_t>(n));
  }
  if (::lseek(file.get(), 0, SEEK_SET) != 0) return system_refused("lseek");
  return file.release();
}

}  // namespace

/// Until when an answer is waited for: by the worker's processor time, and by the clock.
struct WorkerProcess::Deadline {
  std::string_view doing;
  milliseconds limit;
  steady_clock::time_point wall_end;
  std::optional<nanoseconds> cpu_end = std::nullopt;
};

Result<std::unique_ptr<WorkerProcess>> WorkerProcess::start(const TemplateLimits& limits) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return system_refused("socketpair");
  Fd ours(ends[0]);
  Fd theirs(ends[1]);
  if (!ours.move_up() || !theirs.move_up()) return system_refused("fcntl");
  PACKMULE_TRY(const int script_number, script_file());
  const Fd script(script_number);
  const std::string interpreter = interpreter_path();
  PACKMULE_TRY(const pid_t pid, spawn(interpreter, theirs.get(), script.get()));
  std::unique_ptr<WorkerProcess> worker(new WorkerProcess(pid, ours.release(), limits));
  ::close(theirs.release());  // so that the end of the process is seen as the end of the stream

  const Deadline deadline{"starting", kStartTime, steady_clock::now() + kStartTime};
  const double timer_seconds = static_cast<double>(limits.time.count()) * kWallTimeFactor / 1000 + 1;
  // A program that is no interpreter may be gone before the first frame is sent, or behind it.
  const auto hello = worker
                         ->send_frame(fmt::format(R"({{"memory_bytes":{},"timer_seconds":{}}})",
                                                  limits.memory_bytes, timer_seconds),
                                      deadline)
                         .and_then([&] { return worker->receive_reply(deadline); });
  if (!hello)
    return fail(ErrorKind::kUnsupported, "chat template: {} ran but did not start the template worker: {}",
                interpreter, kInstallHint);
  if (hello->kind == 'N')
    return fail(ErrorKind::kUnsupported, "chat template: {} cannot render templates: {}: {}", interpreter,
                hello->text, kInstallHint);
  if (hello->kind != 'R')
    return fail(ErrorKind::kInternal, "chat template: the worker began with '{}' instead of 'R'",
                hello->kind);
  return worker;
}

WorkerProcess::~WorkerProcess() {
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  ::close(socket_);
}

bool WorkerProcess::is_alive() const {
  pollfd entry{.fd = socket_, .events = POLLIN, .revents = 0};
  return ::poll(&entry, 1, 0) == 0;  // between calls it has nothing to say: anything to read is its end
}

Result<WorkerProcess::Reply> WorkerProcess::call(std::string_view request, std::string_view doing) {
  Deadline deadline{doing, limits_.time, steady_clock::now() + limits_.time};
  if (const auto used = cpu_time()) {
    deadline.cpu_end = *used + limits_.time;
    deadline.wall_end = steady_clock::now() + limits_.time * kWallTimeFactor;
  }
  PACKMULE_TRY_STATUS(send_frame(request, deadline));
  return receive_reply(deadline);
}

Status WorkerProcess::send_frame(std::string_view body, const Deadline& deadline) {
  std::string frame(8, '\0');
  for (size_t i = 0; i < 8; ++i) frame[i] = static_cast<char>(body.size() >> (8 * i));
  frame += body;
  std::string_view rest = frame;
  while (!rest.empty()) {
    const ssize_t n = ::send(socket_, rest.data(), rest.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0)
      rest.remove_prefix(static_cast<size_t>(n));
    else if (errno == EAGAIN || errno == EINTR)
      PACKMULE_TRY_STATUS(wait_until_ready(POLLOUT, deadline));
    else
      return ended();
  }
  return {};
}

Result<WorkerProcess::Reply> WorkerProcess::receive_reply(const Deadline& deadline) {
  unsigned char length_bytes[8];
  PACKMULE_TRY_STATUS(receive(reinterpret_cast<char*>(length_bytes), sizeof length_bytes, deadline));
  uint64_t length = 0;
  for (size_t i = 0; i < 8; ++i) length |= uint64_t{length_bytes[i]} << (8 * i);
  if (length < 1 || length > limits_.output_bytes + kErrorRoomBytes)
    return fail(ErrorKind::kInternal, "chat template: the worker announced {} bytes, at most {} are accepted",
                length, limits_.output_bytes + kErrorRoomBytes);
  Reply reply;
  PACKMULE_TRY_STATUS(receive(&reply.kind, 1, deadline));
  reply.text.resize(length - 1);
  PACKMULE_TRY_STATUS(receive(reply.text.data(), reply.text.size(), deadline));
  return reply;
}

Status WorkerProcess::receive(char* to, size_t size, const Deadline& deadline) {
  while (size > 0) {
    const ssize_t n = ::recv(socket_, to, size, MSG_DONTWAIT);
    if (n > 0) {
      to += n;
      size -= static_cast<size_t>(n);
    } else if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
      PACKMULE_TRY_STATUS(wait_until_ready(POLLIN, deadline));
    } else {
      return ended();
    }
  }
  return {};
}

Status WorkerProcess::wait_until_ready(short events, const Deadline& deadline) const {
  while (true) {
    auto left = std::chrono::duration_cast<milliseconds>(deadline.wall_end - steady_clock::now());
    if (const auto used = cpu_time(); used && deadline.cpu_end)
      left = std::min(left, std::chrono::duration_cast<milliseconds>(*deadline.cpu_end - *used));
    if (left.count() <= 0)
      return fail(ErrorKind::kInvalidArgument, "chat template: {} took longer than {} ms: endless loop?",
                  deadline.doing, deadline.limit.count());
    pollfd entry{.fd = socket_, .events = events, .revents = 0};
    const int n = ::poll(&entry, 1, static_cast<int>(left.count()));
    if (n > 0) return {};
    if (n < 0 && errno != EINTR) return fail(ErrorKind::kIo, "chat template: poll: {}", std::strerror(errno));
  }
}

/// Processor time the worker has used; nullopt where the system does not tell.
std::optional<nanoseconds> WorkerProcess::cpu_time() const {
  clockid_t clock;
  timespec used;
  if (::clock_getcpuclockid(pid_, &clock) != 0 || ::clock_gettime(clock, &used) != 0) return std::nullopt;
  return std::chrono::seconds(used.tv_sec) + nanoseconds(used.tv_nsec);
}

/// The error for a stream that ended; tells how the process did.
tl::unexpected<Error> WorkerProcess::ended() {
  int status = 0;
  pid_t waited;
  ::kill(pid_, SIGKILL);
  while ((waited = ::waitpid(pid_, &status, 0)) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  const std::string how = waited < 0            ? "it is gone"
                          : WIFSIGNALED(status) ? fmt::format("signal {}", WTERMSIG(status))
                                                : fmt::format("exit code {}", WEXITSTATUS(status));
  return fail(ErrorKind::kOutOfMemory,
              "chat template: the template worker ended without an answer ({}): does the template need more "
              "than {} MiB?",
              how, limits_.memory_bytes >> 20);
}

}  // namespace packmule::chat
