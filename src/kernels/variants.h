// What each instruction set's folder gives to the table: functions that each fill their part of a Kernels.
//
// fill_matmul sets `matmul` and `decode` for every format, fill_ops sets everything else (fill_delta and
// fill_attention are its parts in files of their own). They are called only after isa_usable() has said yes,
// for their code is compiled with the flags of their instruction set.
#pragma once

#include "kernels/kernels.h"

namespace packmule::kernels {

namespace ref {
void fill_matmul(Kernels& kernels);
void fill_ops(Kernels& kernels);
void fill_delta(Kernels& kernels);
void fill_attention(Kernels& kernels);
}  // namespace ref

namespace avx2 {
void fill_matmul(Kernels& kernels);
void fill_ops(Kernels& kernels);
void fill_delta(Kernels& kernels);
void fill_attention(Kernels& kernels);
}  // namespace avx2

// The rest of the table is avx2's.
namespace avxvnni {
void fill_matmul(Kernels& kernels);
}  // namespace avxvnni

namespace avx512 {
void fill_matmul(Kernels& kernels);
void fill_ops(Kernels& kernels);
void fill_delta(Kernels& kernels);
void fill_attention(Kernels& kernels);
}  // namespace avx512

// The rest of the table is avx512's.
namespace amx {
void fill_matmul(Kernels& kernels);
}  // namespace amx

}  // namespace packmule::kernels
