// What tests on a device share: one device for the whole run, under the validation layer. A message of the
// layer fails the test that caused it. Without a loader, a driver or the layer the tests are skipped and say
// so.
//
// The device is lavapipe where it is installed, else the first that can be used; PACKMULE_TEST_DEVICE
// (Vulkan0 ...) names another.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "vulkan/device.h"
#include "vulkan/memory.h"
#include "vulkan/pipeline.h"
#include "vulkan/upload.h"

namespace packmule::vulkan::testing_support {

/// The opened device, or why there is none.
struct TestDevice {
  std::string missing;
  std::shared_ptr<Instance> instance;
  DeviceInfo info;
  std::shared_ptr<Device> device;
  std::unique_ptr<Pipelines> pipelines;

  static TestDevice& get();

 private:
  Status open();
};

class DeviceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!test().missing.empty()) GTEST_SKIP() << "not tested here: " << test().missing;
  }
  void TearDown() override {
    if (test().instance == nullptr) return;
    for (const std::string& message : test().instance->take_messages()) ADD_FAILURE() << message;
  }
  static TestDevice& test() { return TestDevice::get(); }
  static const std::shared_ptr<Device>& device() { return test().device; }
};

/// A device buffer that holds these values.
template <class T>
Buffer to_device(std::span<const T> values, int64_t more_bytes = 0) {
  const auto& device = TestDevice::get().device;
  const auto bytes = static_cast<int64_t>(values.size_bytes());
  auto buffer = Buffer::create(device, Buffer::Kind::kDevice, (bytes + more_bytes + 7) / 4 * 4, "a test");
  if (!buffer) throw std::runtime_error(buffer.error().message);
  auto uploader = Uploader::create(device, 1 << 20);
  if (!uploader) throw std::runtime_error(uploader.error().message);
  if (auto status = uploader->upload(std::as_bytes(values), buffer->span()); !status)
    throw std::runtime_error(status.error().message);
  if (auto status = uploader->finish(); !status) throw std::runtime_error(status.error().message);
  return std::move(*buffer);
}
template <class T>
Buffer to_device(const std::vector<T>& values) {
  return to_device(std::span<const T>(values));
}

/// The first n values of a buffer.
template <class T>
std::vector<T> from_device(const Buffer& buffer, size_t n) {
  std::vector<T> values(n);
  const auto bytes = std::as_writable_bytes(std::span(values));
  const Status status =
      read_back(TestDevice::get().device, buffer.span().part(0, static_cast<int64_t>(bytes.size())), bytes);
  if (!status) throw std::runtime_error(status.error().message);
  return values;
}

}  // namespace packmule::vulkan::testing_support
