// What needs no device: choosing one, budgets, arenas, the cache file.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "tests/support/test_data.h"
#include "vulkan/arena_layout.h"
#include "vulkan/budget.h"
#include "vulkan/cache_file.h"
#include "vulkan/device_info.h"
#include "vulkan/hardware.h"
#include "vulkan/volk.h"

namespace packmule::vulkan {
namespace {

using ::testing::HasSubstr;

std::vector<DeviceInfo> three_devices() {
  std::vector<DeviceInfo> devices(3);
  devices[0] = {.id = "Vulkan0", .name = "Card", .type = DeviceType::kDiscrete};
  devices[1] = {.id = "Vulkan1", .name = "Old", .type = DeviceType::kIntegrated, .unusable = "it is too old"};
  devices[2] = {.id = "Vulkan2", .name = "llvmpipe", .type = DeviceType::kCpu};
  return devices;
}

TEST(SelectDevices, ByNameInAnyCase) {
  const auto devices = three_devices();
  EXPECT_EQ(find_device(devices, "vulkan2").value(), &devices[2]);
  EXPECT_EQ(find_device(devices, "GPU0").value(), &devices[0]);
  EXPECT_THAT(find_device(devices, "Vulkan7").error().message,
              HasSubstr("there is: Vulkan0, Vulkan1, Vulkan2"));
  EXPECT_THAT(find_device(devices, "Vulkan1").error().message, HasSubstr("it is too old"));
  EXPECT_THAT(find_device({}, "Vulkan0").error().message, HasSubstr("there is: none"));
}

TEST(SelectDevices, ListsAndDefaults) {
  const auto devices = three_devices();
  using Selected = std::vector<const DeviceInfo*>;
  EXPECT_EQ(select_devices(devices, "none").value(), Selected{});
  // Without a name neither what cannot be used nor a processor.
  EXPECT_EQ(select_devices(devices, "").value(), Selected{&devices[0]});
  EXPECT_EQ(select_devices(devices, "Vulkan2,gpu0").value(), (Selected{&devices[2], &devices[0]}));
  EXPECT_THAT(select_devices(devices, "GPU0,Vulkan0").error().message, HasSubstr("named twice"));
  EXPECT_THAT(select_devices(devices, "GPU0,").error().message, HasSubstr("no device ''"));
}

TEST(Budget, LimitAndReserve) {
  EXPECT_EQ(budget_bytes(1000, {}), 900);
  EXPECT_EQ(budget_bytes(1000, {.limit_bytes = 500}), 450);
  EXPECT_EQ(budget_bytes(1000, {.limit_bytes = 5000, .reserve_bytes = 1}), 999);
  EXPECT_EQ(budget_bytes(1000, {.reserve_bytes = 2000}), 0);
}

TEST(Budget, CountsToTheByteAndRefusesWithNumbers) {
  Budget budget("Vulkan0", 1000);
  ASSERT_TRUE(budget.take("weights", 700).has_value());
  const Status refused = budget.take("the KV cache", 301);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().kind, ErrorKind::kOutOfMemory);
  EXPECT_THAT(refused.error().message,
              HasSubstr("Vulkan0: the KV cache need 301 bytes, 300 of the budget of 1000"));
  EXPECT_EQ(budget.left_bytes(), 300);
  EXPECT_TRUE(budget.take("the KV cache", 300).has_value());
  budget.give_back(700);
  EXPECT_EQ(budget.left_bytes(), 700);
}

TEST(ArenaLayout, PlacesDoNotOverlapAndFitTheirArena) {
  ArenaLayout layout;
  for (const int64_t bytes : {0, 1, 255, 256, 257, 700, 1024, 3, 1024, 0}) layout.add("item", bytes);
  ASSERT_TRUE(layout.pack(1100).has_value());  // 1024 in whole alignments
  std::vector<int64_t> end(layout.arena_bytes().size(), 0);
  for (int i = 0; i < layout.n_items(); ++i) {
    const Place& place = layout.place(i);
    auto& last = end[static_cast<size_t>(place.arena)];
    EXPECT_GE(place.offset, last) << i;
    EXPECT_EQ(place.offset % kArenaAlignment, 0) << i;
    last = place.offset + std::max<int64_t>(1, place.size_bytes);
    EXPECT_LE(last, layout.arena_bytes()[static_cast<size_t>(place.arena)]) << i;
  }
  for (const int64_t bytes : layout.arena_bytes()) EXPECT_LE(bytes, 1024);
  EXPECT_EQ(layout.total_bytes() % kArenaAlignment, 0);
  EXPECT_EQ(ArenaLayout().total_bytes(), 0);
}

TEST(ArenaLayout, RefusesWhatNoArenaHolds) {
  ArenaLayout layout;
  layout.add("small", 10);
  layout.add("blk.0.ffn_up_exps.weight", kLargestArena + 1);
  EXPECT_THAT(layout.pack(INT64_MAX).error().message,
              HasSubstr("blk.0.ffn_up_exps.weight has 1073741825 bytes"));
}

TEST(CallError, NamesTheCallAndWhatToDo) {
  const std::string name = call_name("device_->fn().vkAllocateMemory(device_->handle(), &allocate, nullptr)");
  EXPECT_EQ(name, "vkAllocateMemory");
  const Error full = call_error(name, VK_ERROR_OUT_OF_DEVICE_MEMORY);
  EXPECT_EQ(full.kind, ErrorKind::kOutOfMemory);
  EXPECT_THAT(full.message, HasSubstr("vkAllocateMemory: the driver has no memory left"));
  EXPECT_THAT(call_error("vkQueueSubmit", VK_ERROR_DEVICE_LOST).message,
              HasSubstr("the graphics device was lost"));
  EXPECT_THAT(call_error("vkCreateDevice", VK_ERROR_FEATURE_NOT_PRESENT).message,
              HasSubstr("vkCreateDevice failed with VK_ERROR_FEATURE_NOT_PRESENT"));
}

class CacheFile : public ::testing::Test {
 protected:
  void SetUp() override { std::filesystem::remove_all(folder_); }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  const std::filesystem::path folder_ =
      testing_support::generated_dir() / fmt::format("vulkan_cache_{}", getpid());
  const std::string path_ = folder_ / "deep" / "file.cache";
  const CacheUuid uuid_{1, 2, 3};
  std::vector<std::byte> data_ = std::vector<std::byte>(1000, std::byte{7});
};

TEST_F(CacheFile, ComesBackAsItWas) {
  EXPECT_TRUE(read_cache_file(path_, uuid_).empty());
  ASSERT_TRUE(write_cache_file(path_, uuid_, data_).has_value());
  EXPECT_EQ(read_cache_file(path_, uuid_), data_);
  EXPECT_TRUE(read_cache_file(path_, {9}).empty()) << "of another device";
  data_[3] = std::byte{8};
  ASSERT_TRUE(write_cache_file(path_, uuid_, data_).has_value());
  EXPECT_EQ(read_cache_file(path_, uuid_), data_);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_ / "deep"), {}), 1)
      << "left something behind";
}

TEST_F(CacheFile, DamagedIsIgnored) {
  ASSERT_TRUE(write_cache_file(path_, uuid_, data_).has_value());
  const std::string whole = testing_support::read_file(path_);
  const auto read_changed = [&](const std::string& bytes) {
    std::ofstream(path_, std::ios::binary | std::ios::trunc) << bytes;
    return read_cache_file(path_, uuid_);
  };
  EXPECT_EQ(read_changed(whole), data_);
  for (size_t i = 0; i < whole.size(); i += i < 48 ? 1 : 97) {
    std::string damaged = whole;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x40);
    EXPECT_TRUE(read_changed(damaged).empty()) << "byte " << i;
    EXPECT_TRUE(read_changed(whole.substr(0, i)).empty()) << "cut at " << i;
  }
  EXPECT_TRUE(read_changed(whole + "x").empty());
}

TEST_F(CacheFile, AFolderThatCannotBeMadeIsAnError) {
  EXPECT_THAT(write_cache_file("/proc/packmule/file", uuid_, data_).error().message,
              HasSubstr("cannot keep the pipeline cache"));
}

#ifdef __linux__
/// A machine's folders: a server's network card and disk, some device files, nothing of graphics.
class Hardware : public ::testing::Test {
 protected:
  Hardware() : root(std::filesystem::temp_directory_path() / fmt::format("packmule-hardware-{}", getpid())) {
    std::filesystem::remove_all(root);
    for (const char* name : {"dev/null", "dev/nvme0", "dev/nvram", "dev/pts"}) put(name, "");
    put("sys/bus/pci/devices/0000:00:01.0/class", "0x020000\n");
    put("sys/bus/pci/devices/0000:00:02.0/class", "0x010802\n");
    for (const char* name : kVariables) unsetenv(name);
  }
  ~Hardware() override { std::filesystem::remove_all(root); }
  void put(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories((root / name).parent_path());
    std::ofstream(root / name) << text;
  }
  [[nodiscard]] bool may_have() const { return may_have_graphics_card(root); }
  static constexpr const char* kVariables[] = {"VK_DRIVER_FILES", "VK_ICD_FILENAMES", "VK_ADD_DRIVER_FILES"};
  std::filesystem::path root;
};

TEST_F(Hardware, IsRuledOutOnlyWhereTheSystemSaysSo) {
  EXPECT_FALSE(may_have());
  for (const char* name :
       {"dev/dri", "dev/nvidiactl", "dev/dxg", "dev/kfd", "dev/mali0", "proc/driver/nvidia"}) {
    put(name, "");
    EXPECT_TRUE(may_have()) << name;
    std::filesystem::remove(root / name);
  }
  EXPECT_FALSE(may_have());
  // A card whose driver has made no files yet: VGA, 3D, display, an accelerator; and one that says nothing.
  for (const char* card : {"0x030000", "0x030200", "0x038000", "0x120000", ""}) {
    put("sys/bus/pci/devices/0000:01:00.0/class", card);
    EXPECT_TRUE(may_have()) << card;
  }
  std::filesystem::remove_all(root / "sys/bus/pci/devices/0000:01:00.0");
  EXPECT_FALSE(may_have());
  for (const char* name : kVariables) {
    setenv(name, "/some/driver.json", 1);
    EXPECT_TRUE(may_have()) << name;
    unsetenv(name);
  }
  std::filesystem::remove_all(root / "sys");
  EXPECT_TRUE(may_have()) << "nobody says what there is";
}
#endif

}  // namespace
}  // namespace packmule::vulkan
