// One call in the JSON form of Hermes, Qwen3 and Qwen3-Next: {"name": NAME, "arguments": {...}}.
//
// The keys may come in any order, and `parameters` is another name for `arguments`. Arguments that are an
// object are passed on as the text they are, those that are a string of JSON as what it holds; none are {}.
#pragma once

#include "chat/call_output.h"
#include "chat/resumable.h"

namespace packmule::chat {

struct JsonCall {
  bool is_call = false;
  size_t end = 0;  // is_call: what is left of the object, 0; else the offset up to which the text is no call
};

/// Reads the object at `offset`. The call begins when its name and the `{` of its arguments are there, and
/// from then on the arguments go out as they arrive; with the name behind them, when the object ends. What is
/// not JSON before that is no call, and nothing is consumed; else everything through the object's end is.
/// Arguments end where their braces balance: if they are no JSON then, they are passed on with a warning.
Task<JsonCall> json_call(Input& in, CallOutput& out, size_t offset);

}  // namespace packmule::chat
