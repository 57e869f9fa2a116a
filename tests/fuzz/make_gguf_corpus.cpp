// Writes the small files that the GGUF fuzzer starts from.
#include <cstdio>
#include <string>
#include <vector>

#include "gguf/writer.h"

namespace {

using packmule::gguf::Writer;
namespace quant = packmule::quant;

void set_a_key_of_every_type(Writer& writer) {
  writer.set("u8", uint8_t{1});
  writer.set("i8", int8_t{-1});
  writer.set("u16", uint16_t{2});
  writer.set("i16", int16_t{-2});
  writer.set("u32", uint32_t{3});
  writer.set("i32", int32_t{-3});
  writer.set("f32", 0.5f);
  writer.set("bool", true);
  writer.set("string", std::string("mule"));
  writer.set("u64", uint64_t{4});
  writer.set("i64", int64_t{-4});
  writer.set("f64", 0.25);
}

void set_an_array_of_every_type(Writer& writer) {
  writer.set("u8s", std::vector<uint8_t>{1, 2});
  writer.set("i8s", std::vector<int8_t>{-1});
  writer.set("u16s", std::vector<uint16_t>{1});
  writer.set("i16s", std::vector<int16_t>{-1});
  writer.set("u32s", std::vector<uint32_t>{1});
  writer.set("i32s", std::vector<int32_t>{-1});
  writer.set("f32s", std::vector<float>{1, 2});
  writer.set("bools", std::vector<bool>{true, false});
  writer.set("strings", std::vector<std::string>{"pack", "", "mule"});
  writer.set("u64s", std::vector<uint64_t>{1});
  writer.set("i64s", std::vector<int64_t>{});
  writer.set("f64s", std::vector<double>{1});
}

bool write(const Writer& writer, const std::string& path) {
  const auto status = writer.write(path);
  if (!status) std::fprintf(stderr, "make_gguf_corpus: %s\n", status.error().message.c_str());
  return status.has_value();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: make_gguf_corpus FOLDER\n");
    return 2;
  }
  const std::string folder = std::string(argv[1]) + "/";
  const std::vector<std::byte> zeros(1024);
  bool good = write(Writer(), folder + "empty");
  Writer scalars;
  set_a_key_of_every_type(scalars);
  good &= write(scalars, folder + "scalars");
  Writer arrays;
  set_an_array_of_every_type(arrays);
  good &= write(arrays, folder + "arrays");
  Writer shapes;
  shapes.set("general.alignment", uint32_t{8});
  shapes.add_tensor("a", {3}, quant::Type::kF32, std::span(zeros).first(12));
  shapes.add_tensor("b", {2, 3}, quant::Type::kF16, std::span(zeros).first(12));
  shapes.add_tensor("c", {32, 1, 2}, quant::Type::kQ8_0, std::span(zeros).first(68));
  shapes.add_tensor("d", {256, 1, 1, 2}, quant::Type::kQ4_K, std::span(zeros).first(288));
  good &= write(shapes, folder + "shapes");
  for (const quant::Format& format : quant::formats()) {
    Writer one;
    one.add_tensor("t", {format.block_elems}, format.type,
                   std::span(zeros).first(static_cast<size_t>(format.block_bytes)));
    good &= write(one, folder + "type_" + std::string(format.name));
  }
  Writer split;
  split.add_tensor("a", {1}, quant::Type::kF32, std::span(zeros).first(4));
  split.add_tensor("b", {1}, quant::Type::kF32, std::span(zeros).first(4));
  good &= split.write_split(folder + "split", {.max_tensors = 1}).has_value();
  return good ? 0 : 1;
}
