// GBNF, the notation of llama.cpp's grammars, compiled.
//
//   root  ::= item ("," item)*     the answer is what `root` matches
//   item  ::= [a-z0-9_]+ | "\"" [^"\\]{1,20} "\""     # a comment
//
// Literals and classes hold characters, in UTF-8, with the escapes \n \r \t \\ \" \[ \] \- \^ \xXX \uXXXX
// \UXXXXXXXX; `.` is any character. Repetition: * + ? {n} {n,} {n,m}. A rule ends with its line, unless a
// parenthesis is open or the line ends with `|` or `::=`.
//
// Refused with line and column: left recursion, rules that are defined twice or not at all, and literals of
// tokens (<think>, <[1000]>), whose text can be written in quotes.
#pragma once

#include <memory>
#include <string_view>

#include "base/result.h"
#include "grammar/grammar.h"

namespace packmule::grammar {

inline constexpr size_t kMaxGbnfBytes = size_t{1} << 20;

[[nodiscard]] Result<std::shared_ptr<const Grammar>> compile_gbnf(std::string_view text);

/// The rules of a GBNF text put into a source, its root is the result.
[[nodiscard]] Result<RuleId> read_gbnf(std::string_view text, Source& source);

}  // namespace packmule::grammar
