// The terminal: is there one, Ctrl-C, a line of progress, and a line of input with editing and history.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace packmule::cli {

[[nodiscard]] bool is_terminal(int fd);

/// While it lives, Ctrl-C ends nothing: it is noted here. One at a time.
class Interrupts {
 public:
  static Result<std::unique_ptr<Interrupts>> install();
  ~Interrupts();
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  [[nodiscard]] bool pending() const;
  void clear();
  /// Readable while one is pending; for poll.
  [[nodiscard]] int fd() const { return fd_; }

 private:
  explicit Interrupts(int fd) : fd_(fd) {}
  int fd_;
};

/// A line on stderr that is written over and over and vanishes in the end. Silent when stderr is no terminal.
class ProgressLine {
 public:
  ProgressLine();
  ~ProgressLine() { clear(); }
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;
  void show(std::string_view text);
  void clear();

 private:
  bool on_terminal_;
  bool shown_ = false;
};

/// Reads lines from a terminal on stdin, with editing and history (libedit); prompts go to stderr.
class LineReader {
 public:
  explicit LineReader(Interrupts& interrupts);
  ~LineReader();

  enum class Event { kLine, kInterrupted, kEnd };
  struct Input {
    Event event = Event::kEnd;
    std::string text;  // without the newline at the end; a paste may have newlines inside
  };
  /// `prompt` must be printable ASCII.
  [[nodiscard]] Input read(const std::string& prompt);
  /// Puts a text where the up-arrow key finds it.
  void remember(const std::string& text);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Text of a model made fit for a terminal: escape sequences and other control characters become '?'; line
/// ends and tabs stay.
[[nodiscard]] std::string without_controls(std::string_view utf8);

/// The most memory this process has used so far, in bytes, mapped files included.
[[nodiscard]] int64_t peak_memory_bytes();

}  // namespace packmule::cli
