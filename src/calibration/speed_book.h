// Speeds by name: those a file knows, and those that are measured when they are asked for.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "calibration/measure.h"
#include "calibration/speed_file.h"
#include "placement/machine.h"

namespace packmule::calibration {

/// What a plan depends on.
struct Wanted {
  std::vector<quant::Type> weights;  // formats in use, the one with most bytes first
  bool repacked = true;              // strips where a format has them; of the host alone
  AttentionShape attention;
};

enum class When {
  kAuto,    // what the file does not know
  kAlways,  // everything anew
  kNever,   // nothing, and the file is not read
};

struct Outcome {
  int n_measured = 0;   // now
  int n_known = 0;      // from the file
  std::string warning;  // the file could not be written; or ""
};

class SpeedBook {
 public:
  /// `path` is the speed file, "" for none.
  SpeedBook(std::string path, MachineKey key, When when);

  /// What is known by that name, or else what `measure` finds.
  [[nodiscard]] Result<double> get(const std::string& name, const std::function<Result<double>()>& measure);
  /// Writes what is new.
  [[nodiscard]] Outcome close();

 private:
  std::string path_;
  MachineKey key_;
  Speeds speeds_;
  Outcome outcome_;
};

/// The name of an attention speed.
[[nodiscard]] std::string attention_name(const AttentionShape& shape);

/// How one processor is measured; each goes through the book under a name of its own.
struct Gauges {
  std::function<Result<double>(quant::Type)> decode;    // bytes of weights a second, one token
  std::function<Result<double>(quant::Type)> products;  // multiplications and additions a second in prompts
  std::function<Result<double>()> attention;            // bytes of cache a second
};

/// Fills in read_bytes_s, multiply_add_s, both factors of formats and a cache factor of `processor`; what is
/// not wanted keeps its default. At least one format must be wanted.
[[nodiscard]] Status fill_in(const Wanted& wanted, const Gauges& gauges, placement::Processor& processor);

}  // namespace packmule::calibration
