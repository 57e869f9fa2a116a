#include "cli/placement_flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/flags.h"

namespace packmule::cli {
namespace {

using testing::HasSubstr;

struct Parsed {
  PlacementFlags flags;
  std::string error;
};

Parsed parse(std::vector<std::string> args) {
  Parsed parsed;
  CLI::App app;
  app.option_defaults()->take_last();
  add_rule_flags(app, parsed.flags);
  add_machine_flags(app, parsed.flags);
  args = with_long_names(std::move(args));
  std::reverse(args.begin(), args.end());
  try {
    app.parse(std::move(args));
  } catch (const CLI::ParseError& error) {
    parsed.error = error.what();
  }
  return parsed;
}

std::string machine_error(const std::vector<std::string>& args) {
  const Parsed parsed = parse(args);
  EXPECT_EQ(parsed.error, "");
  const auto machine = machine_of(parsed.flags, 4);
  return machine ? "" : machine.error().message;
}

TEST(PlacementFlags, SizesArePowersOf1024) {
  EXPECT_EQ(parse_size("8G").value(), int64_t{8} << 30);
  EXPECT_EQ(parse_size("8GiB").value(), int64_t{8} << 30);
  EXPECT_EQ(parse_size("8gb").value(), int64_t{8} << 30);
  EXPECT_EQ(parse_size("1.5M").value(), 3 << 19);
  EXPECT_EQ(parse_size("0K").value(), 0);
  for (const char* text : {"", "8", "G", "-1G", "8X", "8GG", "8 G", "nanG", "infG", "1e9T", "8Gi3"})
    EXPECT_FALSE(parse_size(text)) << text;
}

TEST(PlacementFlags, OverridesKeepTheirOrderAcrossFlags) {
  const Parsed parsed = parse({"-ncmoe", "3", "-ot", "a=CPU", "-cmoe", "--override-tensor", "b=CPU,c=CPU",
                               "-ngl", "5", "-nkvo", "-ot", "d=CPU"});
  ASSERT_EQ(parsed.error, "");
  EXPECT_EQ(parsed.flags.n_gpu_layers, 5);
  EXPECT_TRUE(parsed.flags.kv_on_host);
  const auto machine = machine_of(parsed.flags, 4).value();
  const auto rules = rules_of(parsed.flags, machine).value();
  std::vector<std::string> words;
  for (const placement::Rule& rule : rules.overrides) words.push_back(rule.words);
  EXPECT_THAT(words, testing::ElementsAre("--n-cpu-moe 3", "-ot a=CPU", "--cpu-moe", "-ot b=CPU", "-ot c=CPU",
                                          "-ot d=CPU"));
}

TEST(PlacementFlags, LayersOnTheGpu) {
  EXPECT_EQ(parse({"-ngl", "99"}).flags.n_gpu_layers, 99);
  EXPECT_EQ(parse({"-ngl", "0"}).flags.n_gpu_layers, 0);
  EXPECT_GT(parse({"--gpu-layers", "all"}).flags.n_gpu_layers, 10000);
  EXPECT_FALSE(parse({"-ngl", "3", "-ngl", "auto"}).flags.n_gpu_layers.has_value());
  for (const char* text : {"many", "-3", "1.5", ""})
    EXPECT_THAT(parse({"--n-gpu-layers=" + std::string(text)}).error, HasSubstr("--n-gpu-layers")) << text;
}

TEST(PlacementFlags, DescribeTheMachine) {
  const Parsed parsed =
      parse({"--device-memory", "8G,12G", "--device-bandwidth", "448", "--pcie", "25,6", "--host-memory",
             "64G", "--host-bandwidth", "70", "--reserve", "1G", "--device-tflops", "40"});
  ASSERT_EQ(parsed.error, "");
  const auto machine = machine_of(parsed.flags, 4).value();
  ASSERT_EQ(machine.n_devices(), 2);
  EXPECT_EQ(machine.names(), "CPU, GPU0 (Vulkan0), GPU1 (Vulkan1)");
  EXPECT_EQ(machine.at(2).free_bytes, int64_t{12} << 30);
  EXPECT_EQ(machine.at(2).budget_bytes(), int64_t{11} << 30);
  EXPECT_EQ(machine.at(1).read_bytes_s, 448e9);
  EXPECT_EQ(machine.at(1).link_bytes_s, 25e9);
  EXPECT_EQ(machine.at(2).link_bytes_s, 6e9);
  EXPECT_EQ(machine.at(1).multiply_add_s, 20e12);
  EXPECT_EQ(machine.host().read_bytes_s, 70e9);
  EXPECT_EQ(machine.host().budget_bytes(), int64_t{63} << 30);
  EXPECT_EQ(machine_of(parse({"--device-memory", "10G", "--reserve", "20%"}).flags, 4)->at(1).budget_bytes(),
            int64_t{8} << 30);
  EXPECT_EQ(machine_of(parse({"--device-memory", "10G"}).flags, 4)->at(1).budget_bytes(), int64_t{9} << 30);
}

TEST(PlacementFlags, ChooseDevices) {
  const auto machine = machine_of(parse({"--device-memory", "8G,12G", "-dev", "Vulkan1"}).flags, 4).value();
  ASSERT_EQ(machine.n_devices(), 1);
  EXPECT_EQ(machine.at(1).name, "GPU1");
  EXPECT_EQ(machine_of(parse({"--device-memory", "8G", "-dev", "none"}).flags, 4)->n_devices(), 0);
}

TEST(PlacementFlags, LimitARealDevice) {
  vulkan::DeviceInfo info;
  info.id = "Vulkan1";
  info.name = "some card";
  info.heaps = {{.size_bytes = int64_t{12} << 30, .device_local = true, .budget_bytes = int64_t{10} << 30}};
  info.max_allocation_bytes = info.max_buffer_bytes = int64_t{4} << 30;
  const auto machine =
      machine_of(parse({"--reserve", "1G", "--device-bandwidth", "500"}).flags, 4, info).value();
  EXPECT_EQ(machine.names(), "CPU, GPU1 (Vulkan1)");
  EXPECT_EQ(machine.at(1).words, "some card");
  EXPECT_EQ(machine.at(1).total_bytes, int64_t{12} << 30);
  EXPECT_EQ(machine.at(1).budget_bytes(), int64_t{9} << 30) << "what the driver leaves, less the reserve";
  EXPECT_EQ(machine.at(1).max_tensor_bytes, int64_t{1} << 30);
  EXPECT_EQ(machine.at(1).read_bytes_s, 500e9);
  EXPECT_EQ(machine_of(parse({"--device-memory", "2G", "-dev", "Vulkan1"}).flags, 4, info)->at(1).free_bytes,
            int64_t{2} << 30);
}

TEST(PlacementFlags, NameWhatIsWrong) {
  const struct {
    std::vector<std::string> args;
    const char* words;
  } cases[] = {
      {{"--device-memory", "8"}, "--device-memory"},
      {{"--device-memory", "8G,"}, "--device-memory"},
      {{"--device-memory", "1G,1G,1G,1G,1G,1G,1G,1G,1G"}, "at most 8"},
      {{"--reserve", "100%"}, "--reserve"},
      {{"--reserve", "10"}, "--reserve"},
      {{"--pcie", "0"}, "--pcie"},
      {{"--device-bandwidth", "fast"}, "--device-bandwidth"},
      {{"--host-bandwidth", "-1"}, "--host-bandwidth"},
      {{"-ncmoe", "-1"}, "--n-cpu-moe"},
  };
  for (const auto& c : cases)
    EXPECT_THAT(parse(c.args).error, HasSubstr(c.words)) << testing::PrintToString(c.args);
  EXPECT_THAT(machine_error({"-dev", "GPU0"}), HasSubstr("can imagine one: --device-memory 8G"));
  EXPECT_THAT(machine_error({"--device-memory", "8G", "-dev", "GPU1"}), HasSubstr("there is CPU, GPU0"));
  EXPECT_THAT(machine_error({"--device-memory", "8G", "-dev", "GPU0,Vulkan0"}), HasSubstr("named twice"));
  EXPECT_THAT(machine_error({"--device-memory", "8G,8G,8G", "--pcie", "1,2"}), HasSubstr("one number or 3"));
  EXPECT_THAT(machine_error({"--pcie", "12"}), HasSubstr("there is none"));
}

}  // namespace
}  // namespace packmule::cli
