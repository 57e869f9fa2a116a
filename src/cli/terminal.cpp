#include "cli/terminal.h"

#include <fmt/format.h>
#include <histedit.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cstring>
#include <deque>

namespace packmule::cli {
namespace {

// A signal handler has no argument of ours: this is where it finds the descriptor.
std::atomic<int> interrupt_fd{-1};
static_assert(std::atomic<int>::is_always_lock_free);

void note_interrupt(int) {
  const int saved = errno;
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = ::write(interrupt_fd.load(), &one, sizeof one);
  errno = saved;
}

void set_handler(void (*handler)(int)) {
  struct sigaction action{};
  action.sa_handler = handler;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGINT, &action, nullptr);
}

// What terminals put around pasted text, once asked to.
constexpr std::string_view kPasteOn = "\x1b[?2004h";
constexpr std::string_view kPasteOff = "\x1b[?2004l";
constexpr std::string_view kPasteBegin = "\x1b[200~";
constexpr std::string_view kPasteEnd = "\x1b[201~";
/// Stands for a line end inside a paste, which must not end the input. U+23CE, "return symbol".
constexpr wchar_t kPastedNewline = L'\u23CE';
constexpr std::string_view kPastedNewlineUtf8 = "\xE2\x8F\x8E";

void say(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

}  // namespace

bool is_terminal(int fd) {
  return ::isatty(fd) == 1;
}

Result<std::unique_ptr<Interrupts>> Interrupts::install() {
  const int fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0) return fail(ErrorKind::kIo, "cannot listen for Ctrl-C: eventfd: {}", std::strerror(errno));
  interrupt_fd = fd;
  set_handler(note_interrupt);
  return std::unique_ptr<Interrupts>(new Interrupts(fd));
}

Interrupts::~Interrupts() {
  set_handler(SIG_DFL);
  interrupt_fd = -1;
  ::close(fd_);
}

bool Interrupts::pending() const {
  pollfd entry{.fd = fd_, .events = POLLIN, .revents = 0};
  return ::poll(&entry, 1, 0) == 1;
}

void Interrupts::clear() {
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t n = ::read(fd_, &count, sizeof count);
}

ProgressLine::ProgressLine() : on_terminal_(is_terminal(STDERR_FILENO)) {}

void ProgressLine::show(std::string_view text) {
  if (!on_terminal_) return;
  say(fmt::format("\r{}\x1b[K", text));
  shown_ = true;
}

void ProgressLine::clear() {
  if (shown_) say("\r\x1b[K");
  shown_ = false;
}

struct LineReader::Impl {
  explicit Impl(Interrupts& signals) : interrupts(signals) {}

  Interrupts& interrupts;
  EditLine* editor = nullptr;
  History* history = nullptr;
  std::string prompt;
  std::deque<unsigned char> bytes;  // read from the terminal, not yet handed out
  bool in_paste = false;
  bool interrupted = false;

  /// Waits for a byte to come in; false at the end of the input and for Ctrl-C.
  bool fill() {
    pollfd entries[2] = {{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0},
                         {.fd = interrupts.fd(), .events = POLLIN, .revents = 0}};
    while (::poll(entries, 2, -1) < 0)
      if (errno != EINTR) return false;
    if (entries[1].revents != 0) {
      interrupted = true;
      return false;
    }
    unsigned char buffer[4096];
    const ssize_t n = ::read(STDIN_FILENO, buffer, sizeof buffer);
    if (n <= 0) return false;
    bytes.insert(bytes.end(), buffer, buffer + n);
    return true;
  }

  /// Takes a paste marker off the front of the input. Terminals send one in a single write.
  bool take(std::string_view marker) {
    if (bytes.size() < marker.size()) return false;
    for (size_t i = 0; i < marker.size(); ++i)
      if (bytes[i] != static_cast<unsigned char>(marker[i])) return false;
    bytes.erase(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(marker.size()));
    return true;
  }

  /// The next character of the input; false when there is none.
  bool next(wchar_t& character) {
    while (true) {
      if (bytes.empty() && !fill()) return false;
      if (take(kPasteBegin))
        in_paste = true;
      else if (take(kPasteEnd))
        in_paste = false;
      else
        break;
    }
    const unsigned char first = bytes.front();
    const int n_more = first >= 0xF0 ? 3 : first >= 0xE0 ? 2 : first >= 0xC0 ? 1 : 0;
    while (bytes.size() < static_cast<size_t>(n_more) + 1)
      if (!fill()) return false;
    bytes.pop_front();
    uint32_t code = n_more == 0 ? first : first & (0x3Fu >> n_more);
    for (int i = 0; i < n_more; ++i) {
      code = code << 6 | (bytes.front() & 0x3Fu);
      bytes.pop_front();
    }
    if (in_paste && (code == '\r' || code == '\n')) code = kPastedNewline;
    if (in_paste && code == '\t') code = ' ';  // a key of the editor otherwise
    character = static_cast<wchar_t>(code);
    return true;
  }

  static Impl& of(EditLine* editor) {
    void* self = nullptr;
    el_get(editor, EL_CLIENTDATA, &self);
    return *static_cast<Impl*>(self);
  }
  static int next_character(EditLine* editor, wchar_t* character) {
    return of(editor).next(*character) ? 1 : 0;
  }
  static char* prompt_of(EditLine* editor) { return of(editor).prompt.data(); }
};

LineReader::LineReader(Interrupts& interrupts) : impl_(std::make_unique<Impl>(interrupts)) {
  std::setlocale(LC_CTYPE, "C.UTF-8");  // libedit turns characters into bytes by it
  HistEvent event;
  impl_->history = history_init();
  history(impl_->history, &event, H_SETSIZE, 1000);
  impl_->editor = el_init("packmule", stdin, stderr, stderr);
  el_set(impl_->editor, EL_CLIENTDATA, impl_.get());
  el_set(impl_->editor, EL_PROMPT, Impl::prompt_of);
  el_set(impl_->editor, EL_EDITOR, "emacs");
  el_set(impl_->editor, EL_HIST, history, impl_->history);
  el_set(impl_->editor, EL_GETCFN, Impl::next_character);
}

LineReader::~LineReader() {
  el_end(impl_->editor);
  history_end(impl_->history);
}

LineReader::Input LineReader::read(const std::string& prompt) {
  impl_->prompt = prompt;
  impl_->interrupted = false;
  impl_->in_paste = false;
  // The editor takes the terminal over only when it waits for the first key, after the prompt is out. A key
  // typed in between would meet the system's own line editing: Ctrl-D would vanish, a backspace would erase
  // one byte.
  el_set(impl_->editor, EL_PREP_TERM, 1);
  say(kPasteOn);
  int n_bytes = 0;
  const char* line = el_gets(impl_->editor, &n_bytes);
  say(kPasteOff);
  if (impl_->interrupted) {
    impl_->interrupts.clear();
    impl_->bytes.clear();
    el_reset(impl_->editor);
    say("\n");
    return {.event = Event::kInterrupted, .text = ""};
  }
  if (line == nullptr || n_bytes <= 0) return {.event = Event::kEnd, .text = ""};
  Input input{.event = Event::kLine, .text = std::string(line, static_cast<size_t>(n_bytes))};
  while (input.text.ends_with('\n') || input.text.ends_with('\r')) input.text.pop_back();
  for (size_t at = 0; (at = input.text.find(kPastedNewlineUtf8, at)) != std::string::npos; ++at)
    input.text.replace(at, kPastedNewlineUtf8.size(), "\n");
  return input;
}

void LineReader::remember(const std::string& text) {
  std::string one_line = text;
  for (size_t at = 0; (at = one_line.find('\n', at)) != std::string::npos;)
    one_line.replace(at, 1, kPastedNewlineUtf8);
  HistEvent event;
  history(impl_->history, &event, H_ENTER, one_line.c_str());
}

std::string without_controls(std::string_view utf8) {
  std::string text;
  text.reserve(utf8.size());
  for (size_t i = 0; i < utf8.size(); ++i) {
    const auto byte = static_cast<unsigned char>(utf8[i]);
    const auto after = i + 1 < utf8.size() ? static_cast<unsigned char>(utf8[i + 1]) : 0;
    if (byte == 0xC2 && after >= 0x80 && after < 0xA0) {  // U+0080 to U+009F
      text += '?';
      ++i;
    } else {
      text += (byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7F ? '?' : utf8[i];
    }
  }
  return text;
}

int64_t peak_memory_bytes() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;
}

}  // namespace packmule::cli
