// Files that are wrong: each kind of damage gets its own clear line, and none gets a crash.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "gguf/file.h"
#include "gguf/raw_file_for_test.h"

namespace packmule::gguf {
namespace {

using testing::HasSubstr;
using namespace testing_support;

constexpr uint64_t kHuge = std::numeric_limits<uint64_t>::max();

struct Damage {
  const char* what;
  void (*spoil)(RawFile&);
  std::vector<const char*> expected;  // parts of the message
  ErrorKind kind = ErrorKind::kInvalidFile;
};

std::string array_head(uint32_t type, uint64_t count) {
  return raw(type) + raw(count);
}

const std::vector<Damage>& damages() {
  using F = RawFile&;
  static const std::vector<Damage> all = {
      // header
      {"other magic",
       [](F f) { f.magic = "GGML"; },
       {"header, byte 0", "expected the magic 'GGUF', found 'GGML'"}},
      {"lower-case magic", [](F f) { f.magic = "gguf"; }, {"found 'gguf'"}},
      {"binary magic", [](F f) { f.magic = std::string("\0\x1b\n\xff", 4); }, {"found '\\x00\\x1b\\n\\xff'"}},
      {"LFS pointer", [](F f) { f.magic = "version https://git-lfs"; }, {"found 'vers'", "git lfs pull"}},
      {"version 0",
       [](F f) { f.version = 0; },
       {"byte 4", "version 2 or 3, found 0"},
       ErrorKind::kUnsupported},
      {"version 1", [](F f) { f.version = 1; }, {"found 1", "convert"}, ErrorKind::kUnsupported},
      {"version 4", [](F f) { f.version = 4; }, {"found 4", "newer packmule"}, ErrorKind::kUnsupported},
      {"big endian",
       [](F f) { f.version = 0x03000000; },
       {"big-endian", "0x03000000"},
       ErrorKind::kUnsupported},
      {"tensor count huge",
       [](F f) { f.n_tensors = kHuge; },
       {"byte 8", "number of tensors is 18446744073709551615"}},
      {"tensor count beyond the bytes",
       [](F f) { f.n_tensors = 1000; },
       {"number of tensors is 1000", "at most"}},
      {"tensor count beyond the limit",
       [](F f) { f.n_tensors = (1 << 20) + 1, f.data_bytes = 40 << 20; },
       {"number of tensors is 1048577", "at most 1048576"}},
      {"key count huge",
       [](F f) { f.n_keys = kHuge; },
       {"byte 16", "number of keys is 18446744073709551615"}},
      {"key count beyond the limit",
       [](F f) { f.n_keys = 65537, f.data_bytes = 2 << 20; },
       {"number of keys is 65537", "at most 65536"}},
      {"one key fewer than there are",
       [](F f) { f.n_keys = 3; },
       {"tensor 'a.words'", "1 to 4 dimensions, found 9"}},
      {"one key more than there are", [](F f) { f.n_keys = 5; }, {"tensor number 1", "found 0"}},
      {"one tensor more than there are", [](F f) { f.n_tensors = 3; }, {"tensor number 3"}},
      // keys
      {"key length huge",
       [](F f) { f.keys[0] = raw(kHuge); },
       {"key number 1, byte 24", "length of 18446744073709551615 bytes"}},
      {"key length beyond the end",
       [](F f) { f.keys[1] = raw(uint64_t{100000}); },
       {"key number 2", "100000 bytes"}},
      {"empty key",
       [](F f) { f.keys[0] = raw_key("", 7, "\1"); },
       {"key number 1", "1 to 65535 bytes, found 0"}},
      {"key too long",
       [](F f) { f.keys[0] = raw_key(std::string(65536, 'k'), 7, "\1"); },
       {"1 to 65535 bytes, found 65536"}},
      {"key not UTF-8", [](F f) { f.keys[0] = raw_key("a\xff", 7, "\1"); }, {"UTF-8, found 'a\\xff'"}},
      {"key with an escape sequence in an error",
       [](F f) { f.keys[0] = raw_key("\x1b[2J\n", 99, ""); },
       {"key '\\x1b[2J\\n'"}},
      {"value type unknown",
       [](F f) { f.keys[0] = raw_key("k", 13, ""); },
       {"key 'k', byte 33", "0 to 12, found 13"}},
      {"value type huge", [](F f) { f.keys[0] = raw_key("k", 0xffffffff, ""); }, {"found 4294967295"}},
      {"bool of 2", [](F f) { f.keys[0] = raw_key("k", 7, "\2"); }, {"key 'k'", "a bool (0 or 1), found 2"}},
      {"string beyond the end",
       [](F f) { f.keys[0] = raw_key("k", 8, raw(uint64_t{1} << 40)); },
       {"key 'k'", "length of 1099511627776 bytes", "truncated or damaged"}},
      {"key twice",
       [](F f) { f.keys = {raw_key("k", 7, "\1"), raw_key("l", 7, "\1"), raw_key("k", 7, "\1")}; },
       {"key 'k', byte 60", "every key once, found it again after byte 32"}},
      // arrays
      {"array of arrays",
       [](F f) { f.keys[0] = raw_key("k", 9, array_head(9, 1) + array_head(4, 0)); },
       {"key 'k'", "array of arrays"}},
      {"array of an unknown type", [](F f) { f.keys[0] = raw_key("k", 9, array_head(77, 1)); }, {"found 77"}},
      {"array count huge",
       [](F f) { f.keys[0] = raw_key("k", 9, array_head(10, kHuge)); },
       {"18446744073709551615 elements of type u64"}},
      {"array count that overflows when multiplied",
       [](F f) { f.keys[0] = raw_key("k", 9, array_head(4, (uint64_t{1} << 62) + 1)); },
       {"4611686018427387905 elements of type u32"}},
      {"string array count beyond the bytes",
       [](F f) { f.keys[0] = raw_key("k", 9, array_head(8, 1000)); },
       {"1000 elements of type string"}},
      {"string of an array beyond the end",
       [](F f) {
         f.keys[0] = raw_key("k", 9, array_head(8, 3) + raw_string("a") + raw_string("b") + raw(kHuge));
       },
       {"key 'k', element 3", "length of 18446744073709551615"}},
      {"bool of an array is 3",
       [](F f) { f.keys[0] = raw_key("k", 9, array_head(7, 2) + "\1\3"); },
       {"key 'k', element 2", "found 3"}},
      {"more array elements than allowed",
       [](F f) { f.keys[0] = raw_key("k", 9, array_head(0, (1 << 26) + 1)), f.data_bytes = (1 << 26) + 2; },
       {"at most 67108864 array elements", "67108865 in this array"}},
      // alignment
      {"alignment 0",
       [](F f) { f.keys[1] = raw_key("general.alignment", 4, raw(uint32_t{0})); },
       {"key 'general.alignment'", "power of two from 8", "found 0"}},
      {"alignment 4",
       [](F f) { f.keys[1] = raw_key("general.alignment", 4, raw(uint32_t{4})); },
       {"power of two from 8", "found 4"}},
      {"alignment 48",
       [](F f) { f.keys[1] = raw_key("general.alignment", 4, raw(uint32_t{48})); },
       {"power of two", "found 48"}},
      {"alignment 2^63",
       [](F f) { f.keys[1] = raw_key("general.alignment", 10, raw(uint64_t{1} << 63)); },
       {"found 9223372036854775808"}},
      {"alignment negative",
       [](F f) { f.keys[1] = raw_key("general.alignment", 5, raw(int32_t{-32})); },
       {"key 'general.alignment'", "found -32"}},
      {"alignment a string",
       [](F f) { f.keys[1] = raw_key("general.alignment", 8, raw_string("32")); },
       {"key 'general.alignment'", "found the string '32'"}},
      // tensors
      {"name empty", [](F f) { f.tensors[0].name = ""; }, {"tensor number 1", "1 to 64 bytes, found 0"}},
      {"name too long", [](F f) { f.tensors[0].name = std::string(65, 'n'); }, {"1 to 64 bytes, found 65"}},
      {"name not UTF-8", [](F f) { f.tensors[1].name = "\xc0\x80"; }, {"tensor number 2", "'\\xc0\\x80'"}},
      {"name twice", [](F f) { f.tensors[1].name = "first"; }, {"tensor 'first'", "every name once"}},
      {"no dimensions", [](F f) { f.tensors[0].ne = {}; }, {"tensor 'first'", "1 to 4 dimensions, found 0"}},
      {"five dimensions", [](F f) { f.tensors[0].ne = {8, 1, 1, 1, 1}; }, {"1 to 4 dimensions, found 5"}},
      {"dimension count huge", [](F f) { f.tensors[0].n_dims = 0xffffffff; }, {"found 4294967295"}},
      {"a dimension of 0",
       [](F f) { f.tensors[1].ne = {8, 0}; },
       {"tensor 'second'", "dimension 1", "found 0"}},
      {"a dimension of 2^63",
       [](F f) { f.tensors[0].ne = {uint64_t{1} << 63}; },
       {"found 9223372036854775808"}},
      {"dimensions that overflow",
       [](F f) { f.tensors[0].ne = {uint64_t{1} << 32, uint64_t{1} << 31}; },
       {"tensor 'first'", "fewer than 2^63 weights"}},
      {"dimensions that overflow to something small",
       [](F f) { f.tensors[0].ne = {uint64_t{1} << 32, uint64_t{1} << 32, 1, 8}; },
       {"fewer than 2^63 weights"}},
      {"size that overflows",
       [](F f) { f.tensors[0].ne = {uint64_t{1} << 62}; },
       {"tensor 'first'", "fewer than 2^64 bytes"}},
      {"row that is no whole blocks",
       [](F f) { f.tensors[1].type = 12; },
       {"tensor 'second'", "multiple of 256 weights (the block of Q4_K), found 8"}},
      {"type unknown",
       [](F f) { f.tensors[0].type = 99; },
       {"tensor 'first'", "type id 99", "F32"},
       ErrorKind::kUnsupported},
      {"type removed from the format",
       [](F f) { f.tensors[0].type = 4; },
       {"tensor 'first'", "type id 4"},
       ErrorKind::kUnsupported},
      {"offset not aligned",
       [](F f) { f.tensors[1].offset = 40; },
       {"tensor 'second'", "multiple of the alignment 32, found 40"}},
      {"offset beyond the file",
       [](F f) { f.tensors[1].offset = 1 << 20; },
       {"tensor 'second'", "64 bytes of data at offset 1048576, found 0 bytes"}},
      {"offset that overflows",
       [](F f) { f.tensors[1].offset = kHuge - 31; },
       {"tensor 'second'", "found 0 bytes from there"}},
      {"larger than the file",
       [](F f) { f.tensors[1].ne = {8, 1000}; },
       {"32000 bytes of data", "found 64 bytes"}},
      {"data one byte short",
       [](F f) { f.data_bytes = 95; },
       {"64 bytes of data at offset 32, found 63 bytes"}},
      {"no data at all", [](F f) { f.data_bytes = 0; }, {"tensor 'first'", "found 0 bytes"}},
      {"overlap", [](F f) { f.tensors[0].ne = {9}; }, {"tensor 'second'", "overlap with tensor 'first'"}},
      {"same place",
       [](F f) { f.tensors[1].offset = 0; },
       {"tensor 'second'", "overlap with tensor 'first'"}},
      {"one inside the other",
       [](F f) { f.tensors = {{"inner", {8}, 0, 32}, {"outer", {24}, 0, 0}}; },
       {"tensor 'inner'", "overlap with tensor 'outer'"}},
      // split keys
      {"split without a number",
       [](F f) { f.keys[0] = raw_key("split.count", 2, raw(uint16_t{2})); },
       {"key 'split.no'", "does not have this key"}},
      {"split number beyond the count",
       [](F f) {
         f.keys[0] = raw_key("split.count", 2, raw(uint16_t{2}));
         f.keys[2] = raw_key("split.no", 2, raw(uint16_t{2}));
       },
       {"key 'split.no'", "below 'split.count' = 2, found 2"}},
      {"split count a string",
       [](F f) { f.keys[0] = raw_key("split.count", 8, raw_string("2")); },
       {"key 'split.count'"}},
      {"split count huge",
       [](F f) { f.keys[0] = raw_key("split.count", 10, raw(kHuge)); },
       {"key 'split.count'", "at most 65535"}},
      {"split tensor count a bool",
       [](F f) {
         f.keys[0] = raw_key("split.count", 2, raw(uint16_t{2}));
         f.keys[2] = raw_key("split.no", 2, raw(uint16_t{0}));
         f.keys[3] = raw_key("split.tensors.count", 7, "\1");
       },
       {"key 'split.tensors.count'"}},
  };
  return all;
}

/// Parses a copy that ends exactly where the bytes end, so that ASan sees a read past them.
Result<File> parse_copy(std::string_view bytes, std::vector<std::byte>& copy) {
  copy = {as_span(bytes).begin(), as_span(bytes).end()};
  copy.shrink_to_fit();
  return File::parse(copy, "m.gguf");
}

/// Reads all that an accepted file offers.
uint64_t touch_everything(const File& file) {
  uint64_t sum = 0;
  for (const KeyValue& entry : file.metadata()) {
    for (const char c : entry.key) sum += static_cast<uint8_t>(c);
    sum += file.has(entry.key) ? 1 : 0;
    sum += file.get_u64(entry.key).value_or(1) + file.get_string(entry.key).value_or("").size();
    if (const auto words = file.get_strings(entry.key)) sum += words->size();
    if (const auto integers = file.get_integers(entry.key)) sum += integers->size();
  }
  for (const TensorInfo& tensor : file.tensors()) {
    sum += static_cast<uint64_t>(tensor.n_elems() + tensor.row_bytes());
    for (uint64_t i = 0; i < tensor.size_bytes; ++i) sum += static_cast<uint8_t>(tensor.data[i]);
  }
  return sum;
}

TEST(Damage, SoundFileIsAccepted) {
  std::vector<std::byte> copy;
  const auto file = parse_copy(RawFile().bytes(), copy);
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_GT(touch_everything(*file), 0u);
}

TEST(Damage, EachKindIsNamedInOneLine) {
  for (const Damage& damage : damages()) {
    SCOPED_TRACE(damage.what);
    RawFile file;
    damage.spoil(file);
    std::vector<std::byte> copy;
    const auto result = parse_copy(file.bytes(), copy);
    if (result) {
      ADD_FAILURE() << "accepted";
      continue;
    }
    EXPECT_EQ(result.error().kind, damage.kind);
    EXPECT_THAT(result.error().message, testing::StartsWith("m.gguf: "));
    EXPECT_EQ(result.error().message.find('\n'), std::string::npos);
    EXPECT_EQ(result.error().message.find('\x1b'), std::string::npos);
    for (const char* part : damage.expected) EXPECT_THAT(result.error().message, HasSubstr(part));
  }
}

TEST(Damage, EveryTruncationIsNamed) {
  const std::string bytes = RawFile().bytes();
  for (size_t n = 0; n < bytes.size(); ++n) {
    std::vector<std::byte> copy;
    const auto result = parse_copy(bytes.substr(0, n), copy);
    ASSERT_FALSE(result) << "accepted the first " << n << " bytes";
    EXPECT_EQ(result.error().kind, ErrorKind::kInvalidFile);
    EXPECT_THAT(result.error().message, HasSubstr(", byte "));
    EXPECT_THAT(result.error().message,
                testing::AnyOf(HasSubstr("truncated"), HasSubstr("empty file"), HasSubstr("the magic"),
                               HasSubstr("have room for at most")));
  }
}

TEST(Damage, NoFlippedBitCrashes) {
  const std::string bytes = RawFile().bytes();
  size_t n_accepted = 0;
  for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    std::string flipped = bytes;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    std::vector<std::byte> copy;
    const auto result = parse_copy(flipped, copy);
    if (result)
      n_accepted += touch_everything(*result) != 0 ? 1 : 0;
    else
      EXPECT_FALSE(result.error().message.empty());
  }
  EXPECT_GT(n_accepted, 96u * 8);  // flips of the data at least
  EXPECT_LT(n_accepted, 8 * bytes.size());
}

}  // namespace
}  // namespace packmule::gguf
