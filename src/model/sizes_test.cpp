// What is said about a model before it is loaded is what loading it takes, to the byte.
#include <gtest/gtest.h>

#include "model/model_for_test.h"
#include "tests/support/golden.h"

namespace packmule::model {
namespace {

TEST(ModelSizes, AreThoseOfTheLoadedModel) {
  int n_compared = 0;
  for (const std::string& name : testing_support::golden_names()) {
    if (testing_support::golden_model_bytes(name) > (int64_t{20} << 20)) continue;
    const auto path = testing_support::golden_model(testing_support::read_golden(name));
    ASSERT_TRUE(path) << path.error().message;
    const auto file = gguf::File::open(path->string()).value();
    for (const Isa isa : all_isas()) {
      if (!isa_usable(isa)) continue;
      for (const int64_t ubatch : {1, 7, 512})
        for (const int n_threads : {1, 3}) {
          const ModelOptions options{
              .isa = isa, .ubatch_size = ubatch, .k_type = quant::Type::kQ8_0, .load_mode = LoadMode::kCopy};
          const auto sizes = Model::sizes(file, options, n_threads);
          ASSERT_TRUE(sizes) << sizes.error().message;
          const auto loaded = LoadedModel::load(*path, options, n_threads);
          ASSERT_TRUE(loaded) << loaded.error().message;
          SCOPED_TRACE(testing::Message()
                       << name << " " << isa_name(isa) << " " << ubatch << " " << n_threads);
          EXPECT_EQ(sizes->activation_bytes, loaded->model->activation_bytes());
          EXPECT_EQ(sizes->weight_bytes, loaded->model->weight_bytes());
          EXPECT_EQ(sizes->weight_bytes_per_token, loaded->model->weight_bytes_per_token());
          EXPECT_EQ(sizes->cache_layout, loaded->model->cache_layout());
          ++n_compared;
        }
    }
  }
  EXPECT_GT(n_compared, 0);
}

TEST(ModelSizes, WrongOptionsAreRefused) {
  const auto path = testing_support::golden_model(testing_support::read_golden("tinyA"));
  ASSERT_TRUE(path);
  const auto file = gguf::File::open(path->string()).value();
  EXPECT_FALSE(Model::sizes(file, {.ubatch_size = 0}, 1));
  EXPECT_FALSE(Model::sizes(file, {.ubatch_size = 1 << 17}, 1));
  EXPECT_FALSE(Model::sizes(file, {.k_type = quant::Type::kQ4_K}, 1));
}

}  // namespace
}  // namespace packmule::model
