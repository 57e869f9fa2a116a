// Lets a parser take its text in pieces, cut anywhere, and still be written as a program that reads on.
//
// The parser is a coroutine over an Input. It asks `co_await in.has(i)` before it looks at byte i; where the
// text does not reach that far yet, the coroutine sleeps until it does or until the text has ended. What it
// has found out so far stays in its local variables, so nothing is read twice and a long text takes linear
// time, however small the pieces. Parts of the grammar are coroutines too: `co_await part(...)`.
//
// Bytes that do not complete a UTF-8 character are kept from the parser until they do, so that what it hands
// on is never half a character.
#pragma once

#include <coroutine>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace packmule::chat {

/// The coroutines in progress, the innermost last. Input runs the last one; a part that is awaited is put
/// behind its caller, and takes itself away at its end.
using TaskStack = std::vector<std::coroutine_handle<>>;

template <class T>
struct TaskResult {
  T result{};
  void return_value(T value) { result = std::move(value); }
  T take() { return std::move(result); }
};
template <>
struct TaskResult<void> {
  void return_void() {}
  void take() {}
};

/// A part of a parser that gives a T.
template <class T>
class [[nodiscard]] Task {
 public:
  struct promise_type : TaskResult<T> {
    TaskStack* stack = nullptr;

    Task get_return_object() { return Task(std::coroutine_handle<promise_type>::from_promise(*this)); }
    std::suspend_always initial_suspend() noexcept { return {}; }
    auto final_suspend() noexcept {
      struct TakeAway {
        bool await_ready() noexcept { return false; }
        void await_suspend(std::coroutine_handle<promise_type> self) noexcept {
          self.promise().stack->pop_back();
        }
        void await_resume() noexcept {}
      };
      return TakeAway{};
    }
    void unhandled_exception() { throw; }  // out of Input::push: there is no memory left
  };

  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Task& operator=(Task&&) = delete;
  ~Task() {
    if (handle_) handle_.destroy();
  }

  void put_on(TaskStack& stack) {
    handle_.promise().stack = &stack;
    stack.push_back(handle_);
  }

  bool await_ready() const noexcept { return false; }
  template <class Promise>
  void await_suspend(std::coroutine_handle<Promise> caller) {
    put_on(*caller.promise().stack);
  }
  T await_resume() { return handle_.promise().take(); }

 private:
  explicit Task(std::coroutine_handle<promise_type> handle) : handle_(handle) {}
  std::coroutine_handle<promise_type> handle_;
};

/// The text that is not consumed yet. Offsets count from its first byte.
class Input {
 public:
  Input() = default;
  Input(const Input&) = delete;
  Input& operator=(const Input&) = delete;

  /// The parser, which must outlive its last push.
  void start(Task<void>& parser) { parser.put_on(stack_); }
  /// Adds bytes and lets the parser run until it needs more.
  void push(std::string_view bytes);
  /// Nothing comes any more; the parser runs to its end.
  void finish();

  struct Has {
    Input& in;
    size_t offset;
    bool await_ready() const { return offset < in.size() || in.ended_; }
    void await_suspend(std::coroutine_handle<>) {
      in.waits_ = true;
      in.waits_for_ = offset;
    }
    bool await_resume() const { return offset < in.size(); }
  };
  /// To be awaited: whether there is a byte at this offset, false only when the text has ended before it.
  [[nodiscard]] Has has(size_t offset) { return {*this, offset}; }

  /// All of it that has arrived. Valid until the next co_await or drop.
  [[nodiscard]] std::string_view view() const {
    return std::string_view(text_).substr(begin_, n_whole_ - begin_);
  }
  [[nodiscard]] std::string_view view(size_t from, size_t to) const { return view().substr(from, to - from); }
  [[nodiscard]] char operator[](size_t offset) const { return text_[begin_ + offset]; }
  [[nodiscard]] size_t size() const { return n_whole_ - begin_; }
  /// Consumes the first bytes.
  void drop(size_t n_bytes);

 private:
  void run();

  std::string text_;
  size_t begin_ = 0;    // bytes before it are consumed
  size_t n_whole_ = 0;  // bytes behind it may be a part of a character
  bool ended_ = false;
  bool waits_ = false;
  size_t waits_for_ = 0;
  TaskStack stack_;
};

}  // namespace packmule::chat
