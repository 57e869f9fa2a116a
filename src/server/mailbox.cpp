#include "server/mailbox.h"

namespace packmule::server {
namespace {

class HandlersEnd : public api::Responder {
 public:
  explicit HandlersEnd(std::shared_ptr<Mailbox> mailbox) : mailbox_(std::move(mailbox)) {}
  ~HandlersEnd() override { mailbox_->abandon(); }
  void send(api::HttpResponse response) override { mailbox_->send(std::move(response)); }
  void start(api::HttpResponse head) override { mailbox_->start(std::move(head)); }
  bool write(std::string_view bytes) override { return mailbox_->write(bytes); }
  void finish() override { mailbox_->finish(); }
  std::stop_token stop_token() const override { return mailbox_->stop_token(); }

 private:
  std::shared_ptr<Mailbox> mailbox_;
};

}  // namespace

std::shared_ptr<api::Responder> Mailbox::responder(std::shared_ptr<Mailbox> mailbox) {
  return std::make_shared<HandlersEnd>(std::move(mailbox));
}

Mailbox::Taken Mailbox::take() {
  const std::lock_guard lock(mutex_);
  Taken taken = std::move(waiting_);
  waiting_ = {};
  // How it ended stays true however often it is asked.
  waiting_.finished = taken.finished;
  waiting_.abandoned = taken.abandoned;
  return taken;
}

void Mailbox::close() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    wake_ = nullptr;
    waiting_ = {};
  }
  stop_.request_stop();
}

void Mailbox::send(api::HttpResponse response) {
  const std::lock_guard lock(mutex_);
  if (closed_ || started_) return;
  started_ = true;
  waiting_.bytes = std::move(response.body);
  waiting_.head = std::move(response);
  waiting_.whole = true;
  waiting_.finished = true;
  wake_locked();
}

void Mailbox::start(api::HttpResponse head) {
  const std::lock_guard lock(mutex_);
  if (closed_ || started_) return;
  started_ = true;
  waiting_.bytes = std::move(head.body);
  waiting_.head = std::move(head);
  wake_locked();
}

bool Mailbox::write(std::string_view bytes) {
  const std::lock_guard lock(mutex_);
  if (closed_ || overflowed_ || waiting_.finished) return false;
  if (waiting_.bytes.size() + bytes.size() > max_waiting_bytes_) {
    overflowed_ = true;
    return false;
  }
  const bool was_empty = waiting_.bytes.empty();
  waiting_.bytes += bytes;
  if (was_empty) wake_locked();
  return true;
}

void Mailbox::finish() {
  const std::lock_guard lock(mutex_);
  if (closed_ || waiting_.finished) return;
  // With a hole in it, the answer must not look complete.
  (overflowed_ ? waiting_.abandoned : waiting_.finished) = true;
  wake_locked();
}

void Mailbox::abandon() {
  const std::lock_guard lock(mutex_);
  if (closed_ || waiting_.finished) return;
  waiting_.abandoned = true;
  wake_locked();
}

}  // namespace packmule::server
