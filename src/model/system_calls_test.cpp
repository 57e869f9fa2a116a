// The decode loop asks nothing of the system. A child process gives up the right to do so (seccomp), decodes,
// and is killed by the kernel at the first call.
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstddef>

#include "model/model_for_test.h"
#include "tests/support/golden.h"

namespace packmule::model {
namespace {

constexpr int kAllWell = 0, kNoSeccomp = 3, kForwardFailed = 4;

/// From here on every thread of the process may only exit and, if `may_sleep`, sleep until woken and wake
/// others (std::atomic::wait gives its core away before it sleeps).
bool forbid_system_calls(bool may_sleep) {
  const uint32_t sleep = may_sleep ? SYS_futex : SYS_exit_group;
  const uint32_t yield = may_sleep ? SYS_sched_yield : SYS_exit_group;
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 3, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, sleep, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, yield, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{sizeof filter / sizeof *filter, filter};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0;
}

/// How a child ends that forbids itself system calls between a prompt and 80 tokens; `and_break_it`: that
/// makes one all the same.
int decode_in_child(const std::filesystem::path& path, std::span<const int32_t> tokens, Isa isa,
                    int n_threads, bool and_break_it) {
  const pid_t child = fork();
  if (child == 0) {
    const auto loaded = LoadedModel::load(path, exact_options(isa, 64), n_threads);
    if (!loaded) _exit(kForwardFailed);
    const auto sequence = loaded->sequence();
    const auto forward = [&](size_t begin, size_t n) {
      const Slice slice{sequence.get(), tokens.subspan(begin, n), WantLogits::kLast};
      return loaded->model->forward({&slice, 1}).has_value();
    };
    bool all_well = forward(0, 60);
    if (!forbid_system_calls(n_threads > 1)) _exit(kNoSeccomp);
    for (size_t i = 60; i < 140; ++i) all_well &= forward(i, 1);  // over the edge of a page of the cache
    if (and_break_it) static_cast<void>(getppid());
    _exit(all_well ? kAllWell : kForwardFailed);
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return status;
}

// Threads that find nothing to do for some microseconds sleep (base/thread_pool.h): these calls are theirs.
TEST(SystemCalls, NoneInDecodingButToSleepAndWake) {
  const testing_support::GoldenCase golden =
      testing_support::read_golden(testing_support::golden_names().front());
  const auto path = testing_support::golden_model(golden);
  ASSERT_TRUE(path.has_value()) << path.error().message;
  for (const Isa isa : all_isas()) {
    if (!isa_usable(isa)) continue;
    for (const int n_threads : {1, 2}) {
      SCOPED_TRACE(testing::Message() << isa_name(isa) << ", " << n_threads << " threads");
      const int broken = decode_in_child(*path, golden.tokens, isa, n_threads, true);
      if (WIFEXITED(broken) && WEXITSTATUS(broken) == kNoSeccomp)
        GTEST_SKIP() << "this system has no seccomp";
      EXPECT_TRUE(WIFSIGNALED(broken) && WTERMSIG(broken) == SIGSYS) << "a call is noticed";
      const int status = decode_in_child(*path, golden.tokens, isa, n_threads, false);
      EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kAllWell)
          << (WIFSIGNALED(status) ? "killed by signal " : "exit status ")
          << (WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    }
  }
}

}  // namespace
}  // namespace packmule::model
