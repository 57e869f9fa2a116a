// What is asked of slots reaches the backend with a path in the one folder, or is refused.
#include "api/slot_actions.h"

#include <gmock/gmock.h>

#include "api/service_fixture_for_test.h"

namespace packmule::api {
namespace {

using testing::HasSubstr;

/// Remembers what it was asked for.
class SlotBackend : public FakeBackend {
 public:
  Result<engine::Engine::SlotFile> save_slot(int slot, const std::string& path, std::stop_token) override {
    asked = fmt::format("save {} {}", slot, path);
    if (error) return tl::unexpected(*error);
    return engine::Engine::SlotFile{.n_tokens = 12, .n_bytes = 345};
  }
  Result<engine::Engine::SlotFile> restore_slot(int slot, const std::string& path, std::stop_token) override {
    asked = fmt::format("restore {} {}", slot, path);
    if (error) return tl::unexpected(*error);
    return engine::Engine::SlotFile{.n_tokens = 12, .n_bytes = 345};
  }
  Result<int64_t> erase_slot(int slot, std::stop_token) override {
    asked = fmt::format("erase {}", slot);
    return 7;
  }
  std::string asked;
  std::optional<Error> error;
};

class SlotActions : public testing::Test {
 protected:
  SlotActions() : service({.slot_save_path = "/folder"}) {
    auto owned = std::make_unique<SlotBackend>();
    backend = owned.get();
    service.set_backend(std::move(owned));
  }
  std::shared_ptr<FakeResponder> post(std::string target, std::string body = "") {
    auto responder = std::make_shared<FakeResponder>();
    service.handle({"POST", std::move(target), {}, std::move(body)}, responder);
    EXPECT_TRUE(responder->wait());
    return responder;
  }
  SlotBackend* backend;
  Service service;
};

TEST_F(SlotActions, AnswersAsLlamaServerDoes) {
  Json answer = post("/slots/2?action=save", R"({"filename":"a b.bin"})")->json();
  EXPECT_EQ(backend->asked, "save 2 /folder/a b.bin");
  EXPECT_GE(answer["timings"]["save_ms"], 0);
  answer.erase("timings");
  EXPECT_EQ(answer, (Json{{"id_slot", 2}, {"filename", "a b.bin"}, {"n_saved", 12}, {"n_written", 345}}));
  answer = post("/slots/0?x=1&action=restore", R"({"filename":"a"})")->json();
  EXPECT_EQ(backend->asked, "restore 0 /folder/a");
  EXPECT_GE(answer["timings"]["restore_ms"], 0);
  answer.erase("timings");
  EXPECT_EQ(answer, (Json{{"id_slot", 0}, {"filename", "a"}, {"n_restored", 12}, {"n_read", 345}}));
  EXPECT_EQ(post("/slots/1?action=erase")->json(), (Json{{"id_slot", 1}, {"n_erased", 7}}));
  EXPECT_EQ(backend->asked, "erase 1");
}

TEST_F(SlotActions, NoNameLeavesTheFolder) {
  for (const std::string name :
       {"", ".", "..", "../a", "a/b", "/etc/passwd", "a\\\\b", "a\\u0000b", "a\\nb", ".hidden"}) {
    const auto answer = post("/slots/0?action=save", fmt::format(R"({{"filename":"{}"}})", name));
    EXPECT_EQ(answer->status(), 400) << name;
    EXPECT_EQ(answer->json()["error"]["param"], "filename");
  }
  EXPECT_FALSE(is_plain_filename(std::string(201, 'a')));
  EXPECT_TRUE(is_plain_filename("\u00e4 (2)..bin"));
  EXPECT_EQ(backend->asked, "");
}

TEST_F(SlotActions, RefusesWhatItDoesNotKnow) {
  const std::string file = R"({"filename":"a"})";
  EXPECT_EQ(post("/slots/x?action=save", file)->json()["error"]["param"], "id_slot");
  EXPECT_EQ(post("/slots/0/?action=save", file)->json()["error"]["param"], "id_slot");
  EXPECT_EQ(post("/slots/-1?action=save", file)->json()["error"]["param"], "id_slot");
  for (const char* query : {"", "?", "?action", "?action=", "?action=load", "?reaction=save"})
    EXPECT_EQ(post(fmt::format("/slots/0{}", query), file)->json()["error"]["param"], "action") << query;
  EXPECT_EQ(post("/slots/0?action=save", "{}")->status(), 400);
  EXPECT_EQ(post("/slots/0?action=save", "")->status(), 400);
  EXPECT_EQ(backend->asked, "");
  Fixture without;
  const auto answer = without.ask("POST", "/slots/0?action=erase");
  EXPECT_EQ(answer->status(), 501);
  EXPECT_THAT(answer->json()["error"]["message"].get<std::string>(), HasSubstr("--slot-save-path"));
  EXPECT_EQ(without.ask("GET", "/slots/0?action=erase")->status(), 405);
}

TEST_F(SlotActions, TellsWhatIsWrongWithAFileButNotWhereItLies) {
  backend->error = Error{ErrorKind::kInvalidFile, "/folder/a: damaged: its sums do not fit; delete it"};
  auto answer = post("/slots/0?action=restore", R"({"filename":"a"})");
  EXPECT_EQ(answer->status(), 400);
  EXPECT_EQ(answer->json()["error"]["message"], "a: damaged: its sums do not fit; delete it");
  backend->error = Error{ErrorKind::kIo, "cannot write /folder/a: No space left on device"};
  answer = post("/slots/0?action=save", R"({"filename":"a"})");
  EXPECT_EQ(answer->status(), 500);
  EXPECT_EQ(answer->json()["error"]["message"], "cannot write a: No space left on device");
}

}  // namespace
}  // namespace packmule::api
