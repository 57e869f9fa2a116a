// The scalar reference of attention: one row of the cache at a time, sums in double.
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/common/attention_scratch.h"
#include "kernels/variants.h"

namespace packmule::kernels {

int64_t attention_scratch_floats(int64_t n_q, int64_t head_dim, int64_t page_tokens) {
  return attention_scratch_total(n_q, head_dim, page_tokens);
}

namespace ref {
namespace {

// Doubles kept in a float buffer, which may be aligned for floats only.
class DoubleArray {
 public:
  explicit DoubleArray(float* storage) : storage_(storage) {}
  [[nodiscard]] double get(int64_t i) const {
    double value;
    std::memcpy(&value, storage_ + 2 * i, sizeof value);
    return value;
  }
  void set(int64_t i, double value) { std::memcpy(storage_ + 2 * i, &value, sizeof value); }

 private:
  float* storage_;
};

const float* read_row(const void* const* pages, int64_t row_bytes, quant::Type type, int64_t token,
                      const AttentionArgs& args, float* buffer) {
  const auto* page = static_cast<const char*>(pages[token / args.page_tokens]);
  const void* row = page + (token % args.page_tokens) * row_bytes;
  if (type == quant::Type::kF32) return static_cast<const float*>(row);
  quant::format_of(type).decode(row, buffer, args.head_dim);
  return buffer;
}

void attention(const AttentionArgs& args) {
  float* const row_buffer = args.scratch;
  DoubleArray sum(args.scratch + args.head_dim);
  for (int64_t i = 0; i < args.n_q; ++i) {
    double largest = -std::numeric_limits<double>::infinity();
    double total = 0;
    for (int64_t d = 0; d < args.head_dim; ++d) sum.set(d, 0);
    for (int64_t j = 0; j < args.n_visible[i]; ++j) {
      const float* k = read_row(args.k_pages, args.k_row_bytes, args.k_type, j, args, row_buffer);
      double score = 0;
      for (int64_t d = 0; d < args.head_dim; ++d) score += static_cast<double>(args.q[i][d]) * k[d];
      score *= args.scale;
      // Online softmax (Milakov and Gimelshein, 2018): what was summed under a smaller maximum is scaled
      // down when a larger one turns up.
      if (score > largest) {
        const double shrink = std::exp(largest - score);
        total *= shrink;
        for (int64_t d = 0; d < args.head_dim; ++d) sum.set(d, sum.get(d) * shrink);
        largest = score;
      }
      const double p = std::exp(score - largest);
      total += p;
      const float* v = read_row(args.v_pages, args.v_row_bytes, args.v_type, j, args, row_buffer);
      for (int64_t d = 0; d < args.head_dim; ++d) sum.set(d, sum.get(d) + p * v[d]);
    }
    if (args.total != nullptr) {
      args.largest[i] = static_cast<float>(largest);
      args.total[i] = static_cast<float>(total);
      total = 1;
    }
    for (int64_t d = 0; d < args.head_dim; ++d) args.out[i][d] = static_cast<float>(sum.get(d) / total);
  }
}

}  // namespace

void fill_attention(Kernels& kernels) {
  kernels.attention = attention;
}

}  // namespace ref
}  // namespace packmule::kernels
