#include "api/random_id.h"

#include <random>

namespace packmule::api {

std::string random_id(std::string_view prefix, int n_letters) {
  constexpr std::string_view kAlphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  std::random_device random;
  std::uniform_int_distribution<size_t> letter(0, kAlphabet.size() - 1);
  std::string id(prefix);
  for (int i = 0; i < n_letters; ++i) id += kAlphabet[letter(random)];
  return id;
}

}  // namespace packmule::api
