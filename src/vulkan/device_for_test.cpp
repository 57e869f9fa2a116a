#include "vulkan/device_for_test.h"

#include <cstdlib>

namespace packmule::vulkan::testing_support {
namespace {

const DeviceInfo* choose(const std::vector<DeviceInfo>& devices) {
  if (const char* wanted = std::getenv("PACKMULE_TEST_DEVICE")) {
    const auto found = find_device(devices, wanted);
    if (!found) throw std::runtime_error(found.error().message);
    return *found;
  }
  const DeviceInfo* chosen = nullptr;
  for (const DeviceInfo& device : devices) {
    if (!device.usable()) continue;
    const bool is_lavapipe = device.name.find("llvmpipe") != std::string::npos;
    if (chosen == nullptr || is_lavapipe) chosen = &device;
  }
  return chosen;
}

/// Ends the device before the program ends: the driver's threads must not outlive its library.
class CloseDevice : public ::testing::Environment {
 public:
  void TearDown() override {
    TestDevice& test = TestDevice::get();
    test.pipelines.reset();
    test.device.reset();
    if (test.instance == nullptr) return;
    for (const std::string& message : test.instance->take_messages()) ADD_FAILURE() << message;
    test.instance.reset();
  }
};
const ::testing::Environment* const kCloseDevice = ::testing::AddGlobalTestEnvironment(new CloseDevice);

}  // namespace

TestDevice& TestDevice::get() {
  static TestDevice test;
  static const bool tried = [] {
    const Status status = test.open();
    if (!status) test.missing = status.error().message;
    return true;
  }();
  (void)tried;
  return test;
}

Status TestDevice::open() {
  PACKMULE_TRY(instance, Instance::create({.validation = true}));
  PACKMULE_TRY(const auto devices, instance->devices());
  const DeviceInfo* chosen = choose(devices);
  if (chosen == nullptr) return fail(ErrorKind::kUnsupported, "no device of this machine can be used");
  info = *chosen;
  PACKMULE_TRY(device, Device::create(instance, info));
  PACKMULE_TRY(pipelines, Pipelines::create(device));
  return {};
}

}  // namespace packmule::vulkan::testing_support
